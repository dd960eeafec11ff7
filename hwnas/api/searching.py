"""search(), load_run(), and the Run and Front that they return."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from hwnas.api.frames import as_frame, as_html
from hwnas.errors import UsageError, did_you_mean
from hwnas.predictors.latency import LatencyTable
from hwnas.search import Candidate, SearchResult
from hwnas.search import api as engine
from hwnas.search.configurations import run_budget_ms
from hwnas.search.run import load_run as read_run
from hwnas.space import ArchSpec, SearchSpace

if TYPE_CHECKING:
    import pandas

__all__ = ["Device", "Front", "Plot", "Run", "Targets", "Time", "load_run", "search"]

Time = str | float
"""A time: "20ms", "0.02s", or a number of milliseconds. As a budget also a rate: "40000/s"."""

Device = str | Path | LatencyTable
"""A device: its name, the file of its latency table, or the table."""

Targets = Mapping[str, Time] | Mapping[Path, Time] | Sequence[tuple[Device, Time]]
"""Latency budgets by device. A table itself is given in pairs: [(table, "20ms")]. Tables of one board, joined
by commas, are configurations to choose from: {"cpu-x86,cpu-x86-int8": "10ms"}."""

_SHOWN = 20
"""Rows of a table in Jupyter."""


@dataclass(frozen=True, slots=True, repr=False)
class Front(Sequence[Candidate]):
    """The Pareto front of a run: networks of which none is better in everything, best accuracy first."""

    candidates: tuple[Candidate, ...]

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> Front: ...
    def __getitem__(self, index: int | slice) -> Candidate | Front:
        found = self.candidates[index]
        return Front(found) if isinstance(found, tuple) else found

    def __len__(self) -> int:
        return len(self.candidates)

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self.candidates)

    def to_frame(self) -> pandas.DataFrame:
        """A row for each network, in the order of the front. Needs pandas.

        Columns: id; accuracy and its standard deviation, in the estimator's unit (%); latency and its
        interval in ms; measured_ms after a verification; params; macs; resolution in pixels; attentions;
        arch, the architecture as plain data (`ArchSpec.from_dict` reads it); and a column for each further
        device or limit.
        """
        return as_frame([_row(candidate) for candidate in self.candidates])

    def __repr__(self) -> str:
        return f"Front({len(self)} networks{_reach(self.candidates)})"

    def _repr_html_(self) -> str:
        header = ("#", "accuracy", "latency", "parameters", "attention", "id")
        rows = [
            (
                str(number),
                _number(candidate.accuracy.value, candidate.accuracy.unit),
                _number(candidate.latency.value, "ms"),
                f"{candidate.params / 1e6:.2f} M",
                ", ".join(candidate.attentions),
                candidate.id,
            )
            for number, candidate in enumerate(self.candidates[:_SHOWN], start=1)
        ]
        more = f", the first {_SHOWN} of them" if len(self) > _SHOWN else ""
        return as_html(f"{len(self)} networks{_reach(self.candidates)}{more}", header, rows)


@dataclass(frozen=True, slots=True, repr=False)
class Plot:
    """A chart of a run."""

    name: str
    svg: str
    """The text of an SVG file."""
    png: bytes
    """The content of a PNG file, 300 dots an inch."""

    def save(self, path: str | Path) -> Path:
        """Writes the chart to a file that ends in .svg or .png, and returns its path.

        Raises UsageError for another ending, and when the file cannot be written.
        """
        file = Path(path)
        if file.suffix not in (".svg", ".png"):
            raise UsageError(f"a chart is saved as .svg or .png, got '{file}'")
        try:
            file.write_bytes(self.png if file.suffix == ".png" else self.svg.encode())
        except OSError as error:
            raise UsageError(f"{file}: cannot be written: {error.strerror}") from None
        return file

    def __repr__(self) -> str:
        return f"Plot({self.name}: {len(self.png)} bytes of PNG)"

    def _repr_png_(self) -> bytes:
        return self.png


@dataclass(frozen=True, slots=True, repr=False)
class Run:
    """A search: its settings, what it evaluated, and the front. `resume` returns a new one."""

    result: SearchResult
    """Everything that the search recorded."""

    @property
    def front(self) -> Front:
        """The Pareto front, best accuracy first."""
        return Front(tuple(self.result.front))

    def to_frame(self) -> pandas.DataFrame:
        """A row for each network that the search recorded, in the order of evaluation. Needs pandas.

        Columns as `Front.to_frame`; measured_ms is of networks that a verification measured.
        """
        known = self.result.verification
        measured = {} if known is None else known.latencies
        rows = (Candidate(one, self.space, measured.get(one.id)) for one in self.result.trials)
        return as_frame([_row(candidate) for candidate in rows])

    @property
    def path(self) -> Path | None:
        """The run directory; None for a run in memory."""
        return self.result.path

    @property
    def space(self) -> SearchSpace:
        """The search space."""
        return self.result.space

    @property
    def is_complete(self) -> bool:
        """Whether all requested networks are evaluated, or the search has converged."""
        return self.result.is_complete

    def resume(
        self,
        *,
        trials: int | None = None,
        accuracy: str | engine.Accuracy | None = None,
        workers: int | None = None,
        progress: engine.Progress | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Run:
        """Continues the search up to `trials` evaluations in total (default: as many as at first).

        `accuracy` must be given again where it was a function or an object. Raises UsageError when options
        differ from the run's, when another process is searching in it, and for a run without directory.
        """
        if self.path is None:
            raise UsageError("a run in memory cannot be resumed: give the search a run directory, out=...")
        return Run(
            engine.resume(
                self.path, trials=trials, accuracy=accuracy, workers=workers, progress=progress, stop=stop
            )
        )

    def report(self) -> Path:
        """Writes the HTML report into the run directory and returns its path.

        Raises UsageError for a run in memory.
        """
        from hwnas.report import write_report

        return write_report(self.result)

    def plot(self, name: str = "front") -> Plot:
        """One chart of the run, as `hwnas report --plots` writes it. Needs the extra `plots`.

        Names: "front", "hypervolume", "choices", "ops", and "measured" after a verification. With several
        devices or objectives there is one for each, e.g. "front-latency-rpi5".

        Raises UsageError for a chart that this run does not have, MissingPackageError without the extra.
        """
        from hwnas.report import write_plots

        with tempfile.TemporaryDirectory() as folder:
            files = {file.name: file for file in write_plots(self.result, folder)}
            names = sorted({file.stem for file in files.values()})
            if name not in names:
                raise UsageError(
                    f"no chart '{name}'.{did_you_mean(name, names)} Charts of this run: {', '.join(names)}"
                )
            return Plot(
                name, files[f"{name}.svg"].read_text(encoding="utf-8"), files[f"{name}.png"].read_bytes()
            )

    def __repr__(self) -> str:
        return f"Run({self._line()})"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self._line())}</p>{self.front._repr_html_()}"

    def _line(self) -> str:
        where = "in memory" if self.path is None else str(self.path)
        config = self.result.config
        budgets = ", ".join(map(str, config.targets))
        front = self.result.front
        return (
            f"{where}: {len(front)} networks within {budgets}{_reach(front)}; "
            f"{config.provenance} latency; {self.result.remaining}"
        )


def search(
    space: SearchSpace | str | Path | None = None,
    *,
    targets: Targets | None = None,
    accuracy: str | engine.Accuracy | None = None,
    trials: int | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    confidence: float | None = None,
    budget_on: str | None = None,
    limits: Mapping[str, float] | None = None,
    objectives: Sequence[str] | None = None,
    sampler: str | None = None,
    int8_penalty: float | None = None,
    start_from: Run | str | Path | None = None,
    workers: int | None = None,
    progress: engine.Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> Run:
    """Searches the Pareto front of accuracy and latency within a latency budget on each device.

    >>> import hwnas
    >>> run = hwnas.search(targets={"rpi4": "20ms"}, trials=30, seed=0)
    >>> best = run.front[0]
    >>> best.latency.value <= 20, best.latency.unit, best.accuracy.unit
    (True, 'ms', '%')

    space: a search space, its name or its file (default: "default").
    targets: a budget for each device, e.g. {"rpi4": "20ms", "rpi5": 8}. Several must all hold. Of
        {"cpu-x86,cpu-x86-int8": "10ms"} each network gets one table: `Candidate.configuration`.
    accuracy: accuracy estimator: "published" (default), "learned", "supernet:PATH", "zero-cost:DATA",
        "short-training:DATA", "module:function", a predictor, or a function of an ArchSpec that returns
        percent or an Estimate.
    trials: number of evaluations. Without it, "published" and "learned" search until the front stops
        growing; others evaluate 2000 networks.
    seed: the same seed finds the same front (default 0).
    out: run directory, which `load_run` reads and `Run.resume` continues. None keeps the run in memory.
    confidence: probability with which the budget holds, by the table's own error, e.g. 0.9.
    budget_on: "p50" (default), or "p95" for the tail of single inferences.
    limits: upper bounds on "params", "macs", "memory" (bytes), "energy" (mJ of a run on the first device,
        where its table has energy).
    objectives: which of these are minimised as well.
    sampler: "auto" (default), "nsga2", "tpe" or "random".
    int8_penalty: accuracy that int8 costs where precisions are compared, in points (default 0.75).
    start_from: a run whose evaluations are used; its options apply where none are given.
    workers: parallel evaluations, in processes of this machine.
    progress: called as progress(evaluated, wanted), wanted being 0 where unknown.
    stop: called before each evaluation; True ends the search.

    Raises InfeasibleError when no network is within the budget, UsageError for a wrong option and for an
    `out` that holds a run, FileFormatError for a damaged table.
    """
    past = read_run(start_from) if isinstance(start_from, str | Path) else start_from
    devices, budgets_ms = _targets_of(targets)
    if not devices and past is None:
        raise UsageError('a search needs a latency budget for a device, e.g. targets={"rpi4": "20ms"}')
    return Run(
        engine.search(
            SearchSpace.load(space) if isinstance(space, str | Path) else space,
            device=devices or None,
            budget_ms=budgets_ms or None,
            accuracy=accuracy,
            trials=trials,
            seed=seed,
            out=out,
            sampler=sampler,
            confidence=confidence,
            budget_on=budget_on,
            limits=limits,
            objectives=objectives,
            int8_penalty=int8_penalty,
            start_from=past.result if isinstance(past, Run) else past,
            workers=workers,
            progress=progress,
            stop=stop,
        )
    )


def load_run(path: str | Path) -> Run:
    """The run in a directory that a search wrote, finished or not.

    Raises UsageError when there is none, FileFormatError when its files are damaged or of a newer hwnas.
    """
    return Run(read_run(path))


def _targets_of(targets: Targets | None) -> tuple[list[str | LatencyTable], list[float]]:
    """Devices and their budgets in ms, in order."""
    given: Any = targets  # whatever it is, as a caller without a type checker may give anything
    pairs: list[tuple[Any, Any]] = []
    if isinstance(given, Mapping):
        pairs = list(given.items())
    elif given is not None:
        if isinstance(given, str) or any(not isinstance(pair, tuple) or len(pair) != 2 for pair in given):
            raise UsageError(
                f'targets map devices to budgets, e.g. {{"rpi4": "20ms"}} or [(table, "20ms")]; got {given!r}'
            )
        pairs = list(given)
    devices: list[str | LatencyTable] = []
    budgets_ms: list[float] = []
    for device, time in pairs:
        devices.append(device if isinstance(device, LatencyTable) else str(device))
        budgets_ms.append(run_budget_ms(devices[-1], time))
    return devices, budgets_ms


def _row(candidate: Candidate) -> dict[str, Any]:
    arch: ArchSpec = candidate.arch
    return {
        "id": candidate.id,
        **({"configuration": candidate.configuration} if candidate.configuration else {}),
        "accuracy": candidate.accuracy.value,
        "accuracy_std": candidate.accuracy.std,
        "latency_ms": candidate.latency.value,
        "latency_low_ms": candidate.latency.low,
        "latency_high_ms": candidate.latency.high,
        "measured_ms": None if candidate.measured is None else candidate.measured.value,
        "params": candidate.params,
        "macs": candidate.macs,
        "resolution": arch.resolution,
        "attentions": ", ".join(candidate.attentions),
        **{name.replace(" ", "_"): estimate.value for name, estimate in candidate.also.items()},
        "arch": arch.to_dict(),
    }


def _reach(candidates: Sequence[Candidate]) -> str:
    """`, accuracy 61.2 to 76.9 %, latency 4.1 to 20 ms`; empty for an empty front."""
    if not candidates:
        return ""
    accuracies = [candidate.accuracy.value for candidate in candidates]
    latencies = [candidate.latency.value for candidate in candidates]
    unit = candidates[0].accuracy.unit
    return (
        f", accuracy {min(accuracies):.1f} to {max(accuracies):.1f}{' ' if unit else ''}{unit}, "
        f"latency {min(latencies):.3g} to {max(latencies):.3g} ms"
    )


def _number(value: float, unit: str) -> str:
    return f"{value:.4g} {unit}".rstrip()
