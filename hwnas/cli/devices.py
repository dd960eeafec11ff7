"""`hwnas devices`: the devices at hand, and how good each one's table is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hwnas.cli.common import JsonOption, emit_json, stderr, stdout
from hwnas.errors import HwnasError

if TYPE_CHECKING:
    from hwnas.predictors.latency import TableSummary

__all__ = ["command"]


def command(as_json: JsonOption = False) -> None:
    """List the devices: each is a board with a runtime, its version and settings.

    Tables are measured (timed on the board), transferred (from a few networks measured on it and tables of
    other devices) or estimated (fitted to published latencies). The error is the mean on networks that the
    table was not fitted on. Brackets mark values that the source does not state; --json has the reasons.
    With a batch above 1, milliseconds are for the whole batch.
    """
    from hwnas.predictors.latency import device_names, find_table, read_summary
    from hwnas.predictors.latency.locate import shipped_table, stray_files

    devices = []
    broken = [f"{file}: not a table's file: move it elsewhere" for file in stray_files()]
    for name in device_names():
        try:
            devices.append(_described(name, read_summary(find_table(name))))
        except HwnasError as error:
            broken.append(str(error))
    for problem in broken:
        stderr().print(f"warning: left out: {problem}", soft_wrap=True)
    for name in device_names():
        if (own := find_table(name)) != (shipped := shipped_table(name)) and shipped is not None:
            stderr().print(f"warning: {name} is the table {own}, not the one that ships", soft_wrap=True)
    if as_json:
        emit_json({"schema": 1, "devices": devices})
        return

    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "board", "runtime"):
        table.add_column(heading, no_wrap=heading == "name")
    for heading in ("threads", "batch"):
        table.add_column(heading, justify="right")
    table.add_column("precision", no_wrap=True)
    table.add_column("provenance", no_wrap=True)
    for heading in ("error % held out", "rows", "date"):
        table.add_column(heading, justify="right", no_wrap=heading == "date")
    for device in devices:
        mape = device["heldout_mape_percent"]
        table.add_row(
            device["name"],
            device["board"],
            _shown(device, "runtime") + f" {device['runtime_version']}".removesuffix(" unknown"),
            _shown(device, "threads"),
            _shown(device, "batch"),
            _shown(device, "precision"),
            device["provenance"],
            "-" if mape is None else f"{mape:.1f}",
            _rows(device),
            device["date"] or "-",
        )
    console = stdout()
    console.print(table)
    for sentence in dict.fromkeys(text for device in devices for text in device["caveats"]):
        names = ", ".join(device["name"] for device in devices if sentence in device["caveats"])
        console.print(f"{names}: {sentence}", soft_wrap=True)


def _shown(device: dict[str, Any], name: str) -> str:
    """A field of the profile, in brackets where it is inferred."""
    value = str(device[name])
    return f"({value})" if name in device["inferred"] and value != "unknown" else value


def _rows(device: dict[str, Any]) -> str:
    """How many ops the table has, or what it has instead."""
    rows = device["measured_rows"] + device["filled_rows"]
    return str(rows) if rows else "coefficients"


def _described(name: str, table: TableSummary) -> dict[str, Any]:
    return {
        "name": name,
        "board": table.profile.board,
        "runtime": table.profile.runtime,
        "runtime_version": table.profile.runtime_version,
        "provider": table.profile.provider,
        "threads": table.profile.threads,
        "batch": table.profile.batch,
        "precision": table.profile.precision,
        "inferred": dict(table.profile.inferred),
        "provenance": table.provenance,
        "heldout_mape_percent": table.heldout.mape_percent,
        "heldout_networks": len(table.heldout),
        "measured_rows": table.measured_rows,
        "filled_rows": table.filled_rows,
        "date": table.created,
        "caveats": list(table.caveats),
        "path": str(table.path),
    }
