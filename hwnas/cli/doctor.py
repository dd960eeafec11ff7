"""`hwnas doctor`: what is missing on this machine, and the command that mends it."""

from __future__ import annotations

import typer

from hwnas.cli.common import JsonOption, emit_json, stdout

__all__ = ["command"]

_SIGNS = {"ok": "ok", "note": "note", "warning": "WARNING", "blocking": "BLOCKING"}


def command(as_json: JsonOption = False) -> None:
    """Say what is missing or odd here, and the command that mends it. Nothing is changed.

    Exits with 0 when a search can run, warnings or not, and with 2 when something blocks it.
    """
    from hwnas import doctor

    findings = doctor.examine()
    blocked = any(finding.level == "blocking" for finding in findings)
    if as_json:
        emit_json(
            {
                "schema": 1,
                "ready": not blocked,
                "findings": [
                    {"level": finding.level, "what": finding.what, "mend": finding.mend or None}
                    for finding in findings
                ],
            }
        )
    else:
        out = stdout()
        for finding in findings:
            out.print(f"{_SIGNS[finding.level]:<9} {finding.what}", soft_wrap=True)
            if finding.mend:
                out.print(f"{'':<9} -> {finding.mend}", soft_wrap=True)
    if blocked:
        raise typer.Exit(2)
