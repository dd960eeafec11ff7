"""`hwnas measure`: whole networks timed on this machine, beside what a table predicts."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwnas.cli.common import (
    DeviceOption,
    HostOption,
    JsonOption,
    emit_json,
    say,
    stderr,
    stdout,
)
from hwnas.cli.subjects import Subject, keep, models_of, subjects
from hwnas.errors import MissingOpError

if TYPE_CHECKING:
    from hwnas.measure.networks import MeasuredNetwork
    from hwnas.predictors.latency import DeviceProfile, LatencyTable
    from hwnas.predictors.latency.measurements import Measurement
    from hwnas.space import ArchSpec

__all__ = ["command"]

_BUSY = 0.9


def command(
    archs: Annotated[
        list[str],
        typer.Argument(
            metavar="ARCH|FILE...",
            help="Networks as everywhere (a preset, a YAML file, RUN#2, a checkpoint), a run's folder for "
            "its whole front, 'presets' for all published networks, or models that hwnas export wrote.",
        ),
    ],
    device: DeviceOption = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads; the device's by default, else 1.")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images a run; the device's, else 1.")] = None,
    runtime: Annotated[str | None, typer.Option(help="Runtime; the device's, else onnxruntime.")] = None,
    precision: Annotated[str | None, typer.Option(help="As fp32 or int8; the device's, else fp32.")] = None,
    provider: Annotated[str | None, typer.Option(help="The device's, else the runtime's default.")] = None,
    host: HostOption = "local",
    rounds: Annotated[int, typer.Option(min=1, help="Fresh processes, each of which times everything.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the random order.")] = 0,
    allow_mismatch: Annotated[
        bool,
        typer.Option("--allow-mismatch", help="Compare with a table of another configuration all the same."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Time whole networks on this machine, with the prediction of a device's table beside each.

    Networks are interleaved in random order, in three fresh processes. A network is timed in the form
    that tables are measured on, with random weights, which do not change the time; an exported model as
    it is. What a file takes goes into its card; what a network of a run or a training takes into their
    folder. Example: hwnas measure uniform-t presets --device cpu-x86
    """
    named = subjects(archs)
    table = None
    if device is not None:
        from hwnas.predictors.latency import LatencyTable

        table = LatencyTable.load(device)
    wanted = {
        "runtime": runtime,
        "threads": threads,
        "batch": batch,
        "precision": precision,
        "provider": provider,
    }
    settings = _settings(named, table, {name: value for name, value in wanted.items() if value is not None})
    models = models_of(named, settings)
    profile, environment = _profile(table, settings, host, allow_mismatch)
    if table is not None and table.profile.board != profile.board:
        stderr().print(
            f"note: this machine is '{profile.board}', the table '{table.name}' ({table.provenance}) is for "
            f"'{table.profile.board}': on another board, the error says nothing about the table"
        )
    measured = _measure(models, profile, host, rounds, seed)
    document = _document(named, measured, table, profile, environment)
    written = keep(named, {name: _measurement(named[name], own, profile) for name, own in measured.items()})
    document["written"] = [str(path) for path in written]
    if as_json:
        emit_json(document)
    else:
        _show(document)


def _settings(
    named: Mapping[str, Subject], table: LatencyTable | None, wanted: Mapping[str, Any]
) -> dict[str, Any]:
    """How the networks are run: as asked for, else as the device, else as the exported files are made for."""
    settings: dict[str, Any] = {
        "runtime": "onnxruntime",
        "threads": 1,
        "batch": 1,
        "precision": "fp32",
        "provider": None,
    }
    known = None if table is None or table.provenance == "estimated" else table.profile
    files = [subject.file for subject in named.values() if subject.file is not None]
    if known is not None:
        settings = {name: getattr(known, name) for name in settings}
        if wanted.get("runtime") not in (None, known.runtime):
            settings["provider"] = None
    elif files:
        settings |= {
            "runtime": files[0].runtime,
            "precision": files[0].precision,
            "batch": files[0].batch or 1,
        }
    return settings | dict(wanted)


def _profile(
    table: LatencyTable | None, settings: Mapping[str, Any], host: str, allow_mismatch: bool
) -> tuple[DeviceProfile, dict[str, Any]]:
    """What is measured on, found out there, and compared with a measured table's own."""
    from hwnas.measure.build import measured_profile
    from hwnas.measure.remote.hosts import start_link
    from hwnas.predictors.latency.runtime_versions import check_configuration

    profile, environment = measured_profile(start_link(host, settings["runtime"], say=say), **settings)
    if table is not None and table.provenance != "estimated":
        for note in check_configuration(table, profile, allow_mismatch=allow_mismatch):
            say(note)
    return profile, environment


def _measure(
    networks: Mapping[str, ArchSpec | bytes], profile: DeviceProfile, host: str, rounds: int, seed: int
) -> dict[str, MeasuredNetwork]:
    from hwnas.measure.networks import measure_archs
    from hwnas.measure.remote.hosts import start_link

    def progress(name: str, done: int, total: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(
                f"\r\x1b[Kmeasuring {done} of {total}: {name}" + ("\r\x1b[K" if done == total else "")
            )
            sys.stderr.flush()

    start = start_link(host, profile.runtime, say=say)
    return measure_archs(networks, profile, rounds=rounds, seed=seed, start=start, report=progress)


def _measurement(subject: Subject, own: MeasuredNetwork, profile: DeviceProfile) -> Measurement:
    from hwnas.predictors.latency.measurements import Measurement

    return Measurement(
        network=subject.arch.id,
        ms=own.ms,
        low_ms=own.low_ms,
        high_ms=own.high_ms,
        measured=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        **profile.settings(),
    )


def _document(
    named: Mapping[str, Subject],
    measured: dict[str, MeasuredNetwork],
    table: LatencyTable | None,
    profile: DeviceProfile,
    environment: dict[str, Any],
) -> dict[str, Any]:
    rows = []
    for name, subject in named.items():
        own, arch = measured[name], subject.arch
        row: dict[str, Any] = {
            "name": name,
            "id": arch.id,
            "form": "deployment graph" if subject.file is None else subject.file.model_format,
            "measured_ms": own.ms,
            "measured_low_ms": own.low_ms,
            "measured_high_ms": own.high_ms,
            "clock_ms": own.raw_ms,
            "measured_p95_ms": own.p95_ms,
            "cpu_share": own.cpu_share,
        }
        if table is not None:
            row |= _predicted_file(table, subject, own.ms) or _predicted(table, arch, own.ms)
        rows.append(row)
    document: dict[str, Any] = {
        "schema": 1,
        "board": profile.board,
        "runtime": profile.runtime,
        "runtime_version": profile.runtime_version,
        "threads": profile.threads,
        "batch": profile.batch,
        "precision": profile.precision,
        "environment": environment,
        "networks": rows,
    }
    if table is not None:
        errors = [abs(row["error_percent"]) for row in rows if row.get("error_percent") is not None]
        document |= {
            "device": table.name,
            "provenance": table.provenance,
            "caveats": list(table.caveats),
            "mape_percent": sum(errors) / len(errors) if errors else None,
            "slowness": _slowness(table, measured),
        }
    return document


def _slowness(table: LatencyTable, measured: Mapping[str, MeasuredNetwork]) -> float | None:
    """What the companion takes now over what it took when the table was built; None if nobody knows."""
    from hwnas.board.timing import median

    if table.pace is None:
        return None
    pace = table.pace
    return median([median(own.beside_ms) / pace.companion_ms(own.raw_ms) for own in measured.values()])


def _predicted_file(table: LatencyTable, subject: Subject, measured_ms: float) -> dict[str, Any] | None:
    """What the card of a detector or segmentation network says for the table's device; None for others."""
    if subject.file is None or "parts" not in subject.file.card:
        return None
    rows = subject.file.card["latency"]["predicted"]
    found = next((row for row in rows if row["device"] == table.name), None)
    if found is None:
        return {"predicted_ms": None, "error_percent": None, "missing_ops": ["the head of this network"]}
    return {
        "predicted_ms": found["ms"],
        "predicted_low_ms": None,
        "predicted_high_ms": None,
        "error_percent": 100 * (found["ms"] / measured_ms - 1),
    }


def _predicted(table: LatencyTable, arch: ArchSpec, measured_ms: float) -> dict[str, Any]:
    try:
        estimate = table.predict(arch)
    except MissingOpError as error:
        return {"predicted_ms": None, "error_percent": None, "missing_ops": list(error.keys)}
    return {
        "predicted_ms": estimate.value,
        "predicted_low_ms": estimate.low,
        "predicted_high_ms": estimate.high,
        "error_percent": 100 * (estimate.value / measured_ms - 1),
    }


def _show(document: dict[str, Any]) -> None:
    from rich.table import Table

    console = stdout()
    console.print(
        f"{document['board']}: {document['runtime']} {document['runtime_version']}, "
        f"{document['threads']} thread(s), batch {document['batch']}, {document['precision']}"
    )
    grid = Table("network", "measured ms", "rounds", box=None)
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
