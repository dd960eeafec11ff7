"""`hwnas doctor`: what is missing on this machine or on a board, and how to fix it."""

from __future__ import annotations

from typing import Annotated

import typer

from hwnas.cli.common import HostOption, JsonOption, emit_json, stdout

__all__ = ["command"]

_SIGNS = {"ok": "ok", "note": "note", "warning": "WARNING", "blocking": "BLOCKING"}


def command(
    host: HostOption = "local",
    runtime: Annotated[str, typer.Option(help="Runtime for the board.")] = "onnxruntime",
    as_json: JsonOption = False,
) -> None:
    """Diagnose the setup here or on a board, and suggest fixes.

    Nothing is changed; on a board, the agent's own files go to ~/.cache/hwnas. The exit code is 0 when a
    search can run here or the board can be measured, 2 when something blocks it, and 4 when the board
    cannot be reached.
    """
    from hwnas import doctor

    if host == "local":
        findings = doctor.examine()
    else:
        from hwnas.doctor.board import examine_board

        findings = examine_board(host, runtime)
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
