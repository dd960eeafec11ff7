"""`hwnas measure`: whole networks timed on this machine, beside what a table predicts."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from hwnas.cli.common import (
    DeviceOption,
    HostOption,
    JsonOption,
    emit_json,
    say,
    stderr,
    stdout,
    write_err,
)

__all__ = ["command"]

_BUSY = 0.9


def command(
    archs: Annotated[
        list[str],
        typer.Argument(
            metavar="ARCH|FILE...",
            help="Networks (preset, YAML file, RUN#2, checkpoint), a run's folder for its whole front, "
            "'presets' for all published networks, or exported files.",
        ),
    ],
    device: DeviceOption = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Number of threads. Default: the device's, else 1.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Batch size. Default: the device's, else 1.")
    ] = None,
    runtime: Annotated[
        str | None, typer.Option(help="Runtime. Default: the device's, else onnxruntime.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Numeric precision, fp32 or int8. Default: the device's, else fp32.")
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(help="Execution provider, e.g. cuda. Default: the device's, else the runtime's own."),
    ] = None,
    host: HostOption = "local",
    rounds: Annotated[int, typer.Option(min=1, help="Number of fresh processes; each times everything.")] = 3,
    seed: Annotated[int, typer.Option(help="Random seed of the order.")] = 0,
    allow_mismatch: Annotated[
        bool,
        typer.Option("--allow-mismatch", help="Compare with a table of another configuration."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure whole networks on this machine or a board, beside the prediction of a table.

    Networks are timed in random order in three fresh processes: an architecture in the runtime's deployment
    graph with random weights, an exported file as it is. The result is written into the model card of a
    file, or into the folder of a run or training. Boards that report energy (RAPL on x86, INA3221 on a
    Jetson) also give millijoules for each run.
    """
    from hwnas.api.measuring import measure_subjects
    from hwnas.named import subjects
    from hwnas.predictors.latency import LatencyTable

    named = subjects(archs)
    table = None if device is None else LatencyTable.load(device)
    wanted = {
        "runtime": runtime,
        "threads": threads,
        "batch": batch,
        "precision": precision,
        "provider": provider,
    }
    document = measure_subjects(
        named,
        table,
        {name: value for name, value in wanted.items() if value is not None},
        host=host,
        rounds=rounds,
        seed=seed,
        allow_mismatch=allow_mismatch,
        say=say,
        progress=_progress,
    )
    if as_json:
        emit_json(document)
    else:
        _show(document)


def _progress(name: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        write_err("" if done == total else f"measuring {done} of {total}: {name}", anew=True)


def _show(document: dict[str, Any]) -> None:
    from rich.table import Table

    console = stdout()
    console.print(
        f"{document['board']}: {document['runtime']} {document['runtime_version']}, "
        f"{document['threads']} thread(s), batch {document['batch']}, {document['precision']}"
    )
    grid = Table("network", "measured ms", "rounds", box=None)
    meter = next((row["energy_meter"] for row in document["networks"] if "energy_meter" in row), None)
    if meter:
        grid.add_column(f"energy mJ ({meter})")
    told = document.get("device")
    if told:
        for title in (f"predicted ms ({document['provenance']} table {told})", "90 % interval", "error"):
            grid.add_column(title)
    for row in document["networks"]:
        cells = [
            row["name"],
            f"{row['measured_ms']:.3f}",
            f"{row['measured_low_ms']:.3f} to {row['measured_high_ms']:.3f}",
        ]
        if meter:
            cells.append(f"{row['measured_energy_mj']:.2f}" if "measured_energy_mj" in row else "-")
        if told and row["predicted_ms"] is None:
            cells += ["none", f"{len(row['missing_ops'])} ops are not in the table", ""]
        elif told:
            cells += [
                f"{row['predicted_ms']:.3f}",
                "unknown"
                if row["predicted_low_ms"] is None
                else f"{row['predicted_low_ms']:.3f} to {row['predicted_high_ms']:.3f}",
                f"{row['error_percent']:+.1f} %",
            ]
        grid.add_row(*cells)
    console.print(grid)
    if document.get("mape_percent") is not None:
        console.print(f"mean absolute error {document['mape_percent']:.1f} %")
    for sentence in document.get("caveats", ()):
        console.print(f"The table '{told}': {sentence}", soft_wrap=True)
    if document.get("slowness") is not None:
        console.print(
            "The network timed beside all others takes "
            f"{document['slowness']:.3f} times what it took when the table was built."
        )
    if any(row["cpu_share"] < _BUSY for row in document["networks"]):
        stderr().print("Other programs took the CPU while measuring: these times are too long.")
    for path in document["written"]:
        stderr().print(f"kept in {path}", soft_wrap=True)
