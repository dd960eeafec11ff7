"""measure(): whole networks timed on this machine or a board, beside what a table predicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas.api.exporting import ExportedModel
from hwnas.api.frames import as_frame, as_html
from hwnas.api.networks import Arch
from hwnas.api.training import TrainedModel
from hwnas.board.timing import median
from hwnas.errors import MissingOpError, UsageError
from hwnas.measure.build import measured_profile
from hwnas.measure.networks import MeasuredNetwork, measure_archs
from hwnas.measure.remote.hosts import LOCAL, start_link
from hwnas.named import Subject, keep, models_of, subjects
from hwnas.predictors.latency import DeviceProfile, LatencyTable
from hwnas.predictors.latency.measurements import GRAPH, Measurement
from hwnas.predictors.latency.runtime_versions import check_configuration
from hwnas.search import Candidate
from hwnas.space import ArchSpec

if TYPE_CHECKING:
    import pandas

__all__ = ["Measurements", "measure", "measure_subjects"]

Say = Callable[[str], None]
"""Called with a sentence about what takes long, or what differs."""

ENERGY_S = 0.5
"""Seconds that each network also runs, each round, on boards that report energy."""


@dataclass(frozen=True, slots=True, repr=False)
class Measurements(Sequence[Mapping[str, Any]]):
    """Measured latencies, a row for each network."""

    document: Mapping[str, Any]
    """What `hwnas measure --json` prints: board, runtime, environment, networks."""

    def __getitem__(self, index: Any) -> Any:
        return self.document["networks"][index]

    def __len__(self) -> int:
        return len(self.document["networks"])

    @property
    def mape_percent(self) -> float | None:
        """Mean absolute error of the predictions in %; None without a table to compare with."""
        found = self.document.get("mape_percent")
        return None if found is None else float(found)

    def to_frame(self) -> pandas.DataFrame:
        """A row for each network: name, id, measured_ms with the fastest and slowest round, clock_ms,
        measured_p95_ms, measured_energy_mj where the board reports energy; with a table also predicted_ms,
        its interval, and error_percent. Needs pandas.
        """
        return as_frame(self.document["networks"])

    def __repr__(self) -> str:
        mape = self.mape_percent
        error = "" if mape is None else f"; mean error of the prediction {mape:.1f} %"
        rows = ", ".join(f"{row['name']} {row['measured_ms']:.3f} ms" for row in self.document["networks"])
        return f"Measurements(on {self._where()}: {rows}{error})"

    def _repr_html_(self) -> str:
        def cell(row: Mapping[str, Any], key: str) -> str:
            return "" if row.get(key) is None else f"{row[key]:.3f}"

        keys = ("measured_ms", "measured_low_ms", "measured_high_ms", "predicted_ms", "error_percent")
        rows = [(str(row["name"]), *(cell(row, key) for key in keys)) for row in self.document["networks"]]
        return as_html(self._where(), ("network", *keys), rows)

    def _where(self) -> str:
        known = self.document
        return (
            f"{known['board']}: {known['runtime']} {known['runtime_version']}, {known['threads']} thread(s), "
            f"batch {known['batch']}, {known['precision']}"
        )


def measure(
    networks: Sequence[Arch | TrainedModel | ExportedModel] | Arch | TrainedModel | ExportedModel,
    *,
    host: str = LOCAL,
    compare_with: LatencyTable | str | Path | None = None,
    runtime: str | None = None,
    threads: int | None = None,
    batch: int | None = None,
    precision: str | None = None,
    provider: str | None = None,
    rounds: int = 3,
    seed: int = 0,
    allow_mismatch: bool = False,
    say: Say = lambda sentence: None,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Measurements:
    """Times whole networks on this machine or on a board, in fresh processes and random order.

        file = hwnas.export(model, "model.onnx")
        hwnas.measure([file, "uniform-t"], compare_with="cpu-x86").to_frame()

    networks: exported files, trained models, architectures, or names ("uniform-t", "presets", "runs/a#1",
        "runs/a" for its whole front, "model.onnx"). An architecture is timed in the runtime's deployment
        graph with random weights; an exported file as it is.
    host: "local", "user@board", or a name of ~/.ssh/config.
    compare_with: a latency table, its name or file: each row gets its prediction and the error in %. Its
        runtime, threads, batch and precision apply where none are given.
    runtime, threads, batch, precision, provider: default: the table's, else the file's, else onnxruntime,
        1, 1, fp32 and the runtime's own.
    rounds: fresh processes, each of which times everything.
    allow_mismatch: compare with a measured table of another configuration.
    say: called with a sentence about what takes long or differs.
    progress: called as progress(name, timings done, total).

    What an exported file takes is written into its model card, what a network of a run or a training takes
    into their folder. Raises UsageError for an unknown name and for a table of another configuration,
    BoardError when the board cannot be reached, HwnasError for a network that does not run.
    """
    given = [networks] if isinstance(networks, _ONE) else list(networks)
    if not given:
        raise UsageError("there is nothing to measure: name a network, e.g. 'uniform-t'")
    named: dict[str, Subject] = {}
    for one in given:
        if isinstance(one, Candidate):
            named[one.id] = Subject(one.arch)
        elif isinstance(one, ArchSpec):
            named[one.id] = Subject(one)
        else:
            named |= subjects([str(one.path if isinstance(one, TrainedModel) else one)])
    table = LatencyTable.load(compare_with) if isinstance(compare_with, str | Path) else compare_with
    wanted = {
        "runtime": runtime,
        "threads": threads,
        "batch": batch,
        "precision": precision,
        "provider": provider,
    }
    return Measurements(
        measure_subjects(
            named,
            table,
            {name: value for name, value in wanted.items() if value is not None},
            host=host,
            rounds=rounds,
            seed=seed,
            allow_mismatch=allow_mismatch,
            say=say,
            progress=progress,
        )
    )


_ONE = (str, Path, ArchSpec, Candidate, TrainedModel, ExportedModel)


def measure_subjects(
    named: Mapping[str, Subject],
    table: LatencyTable | None,
    wanted: Mapping[str, Any],
    *,
    host: str,
    rounds: int,
    seed: int,
    allow_mismatch: bool,
    say: Say,
    progress: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """The document that `hwnas measure --json` prints. `wanted` are the settings that were given."""
    settings = _settings(named, table, wanted)
    models = models_of(named, settings)
    profile, environment = _profile(table, settings, host, allow_mismatch, say)
    if table is not None and table.profile.board != profile.board:
        say(
            f"note: this machine is '{profile.board}', the table '{table.name}' ({table.provenance}) is for "
            f"'{table.profile.board}': on another board, the error says nothing about the table"
        )
    measured = measure_archs(
        models,
        profile,
        rounds=rounds,
        seed=seed,
        energy_s=ENERGY_S,
        start=start_link(host, profile.runtime, say=say),
        report=progress,
    )
    document = _document(named, measured, table, profile, environment)
    written = keep(named, {name: _measurement(named[name], own, profile) for name, own in measured.items()})
    document["written"] = [str(path) for path in written]
    return document


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
    table: LatencyTable | None, settings: Mapping[str, Any], host: str, allow_mismatch: bool, say: Say
) -> tuple[DeviceProfile, dict[str, Any]]:
    """What is measured on, found out there, and compared with a measured table's own."""
    profile, environment = measured_profile(start_link(host, settings["runtime"], say=say), **settings)
    if table is not None and table.provenance != "estimated":
        for note in check_configuration(table, profile, allow_mismatch=allow_mismatch):
            say(note)
    return profile, environment


def _measurement(subject: Subject, own: MeasuredNetwork, profile: DeviceProfile) -> Measurement:
    return Measurement(
        network=subject.arch.id,
        ms=own.ms,
        low_ms=own.low_ms,
        high_ms=own.high_ms,
        energy_mj=own.energy_mj,
        measured=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        graph=GRAPH if subject.file is None else "file",
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
        if own.energy_mj is not None:
            row |= {"measured_energy_mj": own.energy_mj, "energy_meter": own.meter}
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
