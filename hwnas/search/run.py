"""The run directory: what a search leaves behind, and takes up again after any kind of end.

    run.yaml          the config, versions, the number of candidates wanted; written once
    candidates.jsonl  a line for each recorded network; only appended to
    progress.jsonl    a line for each epoch of a search in arrays; only appended to
    front.json        the front, for other programs; rewritten at the end and at an interruption
    report.html       the same for people: `hwnas.report` writes it
    verification.json what measuring the front said, if that was asked for
    corrected-table.yaml  the latency table corrected with it
    lock              held by the process that searches; the system frees it when that process dies

Only the first three and the verification are read back; a kill between any two writes loses nothing.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hwnas
from hwnas.errors import FileFormatError, HwnasError, UsageError
from hwnas.estimate import Estimate
from hwnas.io import json as json_io
from hwnas.io import lock
from hwnas.io import yaml as yaml_io
from hwnas.io.atomic import write_atomically
from hwnas.io.folders import next_numbered
from hwnas.io.jsonl import Kind, Log, read_log
from hwnas.predictors.accuracy import names_function
from hwnas.search.candidates import (
    CANDIDATE_LOG,
    CANDIDATES,
    belongs_to,
    check_belongs_to,
    read_candidates,
)
from hwnas.search.config import SearchConfig
from hwnas.search.configurations import in_each_configuration
from hwnas.search.evolution import Epoch
from hwnas.search.front import best
from hwnas.search.trial import Candidate, Trial
from hwnas.search.verification import VERIFICATION, Verification, read_verification
from hwnas.space.arch import ArchSpec
from hwnas.space.search_space import SearchSpace

__all__ = [
    "FRONT",
    "PROGRESS",
    "PROGRESS_LOG",
    "RUN",
    "SearchResult",
    "attention_types",
    "candidate_log",
    "create_run",
    "discard_if_empty",
    "extended",
    "load_run",
    "locked",
    "next_folder",
    "progress_log",
    "reread",
    "result_of",
    "resume_command",
]

FORMAT_VERSION = 4
# 1: one device; 2: `question` may have others, limits and objectives; 3: `config` with targets instead of
# `question`, `trials` may be null, `given`, `source`; 4: has a checksum.

KEYS = {"config": dict, "versions": dict, "started": str, "work": dict, "given": int}
"""What run.yaml holds besides, and of which type."""
RUN, PROGRESS, FRONT, LOCK = "run.yaml", "progress.jsonl", "front.json", "lock"
LEFTOVERS = (CANDIDATES, PROGRESS, FRONT, VERIFICATION)
"""What a run holds besides run.yaml, and a folder without one must not: it would be taken for its own."""
PROGRESS_LOG = Kind(
    "hwnas search progress",
    noun="an epoch of a search",
    fix="Delete that line and those after it to repeat these epochs, or start a new run",
    old_keys=tuple(spec.name for spec in dataclasses.fields(Epoch) if spec.default is dataclasses.MISSING),
)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found, with everything it takes to find it again."""

    config: SearchConfig
    space: SearchSpace
    trials_wanted: int | None
    """How many networks to evaluate; None for a search in arrays, which goes on until it converges."""
    trials: tuple[Trial, ...]
    """All recorded networks, in the order of evaluation. All are within the limits."""
    front: list[Candidate]
    """The networks worth choosing from, best accuracy first; see `hwnas.search.front`. Once they are
    verified, only networks that were measured within the budget."""
    versions: dict[str, str]
    started: str
    """When the search began, UTC, ISO 8601; empty where nothing is kept."""
    path: Path | None
    """The run directory; None where nothing is kept."""
    verification: Verification | None = None
    """What measuring the front on the device said, finished or not; None when nobody asked."""
    work: Mapping[str, Any] = field(default_factory=dict)
    """How candidates were evaluated at first: engine, workers, address, GPUs, as far as they were given."""
    epochs: tuple[Epoch, ...] = ()
    """The epochs of a search in arrays."""
    given: int = 0
    """How many of the trials come from another run (`start_from`); they are the first ones."""
    source: str = ""
    """The folder of that run; empty without one."""
    recorded_bytes: int = field(default=0, compare=False)
    """Size of the record when it was read."""

    @property
    def evaluated(self) -> int:
        """Networks evaluated, recorded or not."""
        return self.epochs[-1].evaluated if self.epochs else len(self.trials) - self.given

    @property
    def remaining(self) -> str:
        """How far the search is: `2000 of 2000`, or `3120 recorded of 105000 evaluated`."""
        if self.trials_wanted is not None:
            return f"{len(self.trials)} of {self.trials_wanted}"
        return f"{len(self.trials)} recorded of {self.evaluated} evaluated"

    checked: bool = True
    """Whether every line of the record has a checksum; False for runs of before there were any."""

    @property
    def is_verified(self) -> bool:
        """Whether the front is one of measured networks, chosen among all candidates there are."""
        known = self.verification
        return known is not None and known.is_complete and known.candidates == len(self.trials)

    @property
    def is_exact(self) -> bool:
        """Whether every network of the space was evaluated, so that the front is the true one."""
        return bool(self.epochs) and self.epochs[-1].exact

    @property
    def is_complete(self) -> bool:
        """Whether all candidates that were requested are evaluated, or the search has converged."""
        if self.trials_wanted is None:
            return bool(self.epochs) and self.epochs[-1].converged
        return len(self.trials) >= self.trials_wanted


def resume_command(path: Path, accuracy: str = "") -> str:
    """The command line that takes this run up again; `accuracy` is the run's estimator.

    A function of the user's must be named again, or anyone's run could have any module imported.
    """
    named = f" --accuracy {shlex.quote(accuracy)}" if names_function(accuracy) else ""
    return f"hwnas search --resume {shlex.quote(str(path))}{named}"


def next_folder(parent: Path, device: str, budget_ms: float) -> Path:
    """The next of PARENT/DEVICE-BUDGET-1, -2, ... after those that are there."""
    return next_numbered(parent, f"{Path(device.split(',')[0]).stem}-{budget_ms:g}ms")


def create_run(
    path: Path,
    config: SearchConfig,
    *,
    trials: int | None,
    work: Mapping[str, Any] | None = None,
    given: Sequence[Trial] = (),
    source: str = "",
) -> None:
    """Makes the directory and writes `run.yaml`, then the trials that are `given` from the run `source`.

    Of several processes that make one at once, one does. Raises UsageError when there is a run already,
    or when the folder cannot be written.
    """
    held = UsageError(
        f"{path}: holds a run already. Continue it with '{resume_command(path)}', or name another folder"
    )
    if (path / RUN).exists():
        raise held
    data = {
        "schema": FORMAT_VERSION,
        "hwnas": hwnas.__version__,
        "versions": _versions(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "trials": trials,
        "work": dict(work or {}),
        "given": len(given),
        "source": source,
        "config": config.to_dict(),
    }
    data = yaml_io.parse(yaml_io.dump(data), source=RUN)  # as it will be read
    text = yaml_io.dump({**data, "checksum": json_io.checksum(data)})
    try:
        path.mkdir(parents=True, exist_ok=True)
        with locked(path):
            if (path / RUN).exists():
                raise held
            if left := [name for name in LEFTOVERS if _holds_something(path / name)]:
                raise UsageError(
                    f"{path}: holds {', '.join(left)} of a run whose {RUN} is gone, which a new run must not "
                    f"mix with. Restore {RUN}, remove these files, or name another folder"
                )
            write_atomically(path / RUN, text)
            with candidate_log(path) as log:
                log.extend(trial.to_dict() for trial in given)
    except UsageError:
        raise
    except (OSError, HwnasError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"the folder for the run must be writable: {path}: {reason}") from None


def load_run(path: Path | str) -> SearchResult:
    """The run in a directory, finished or not; its front is worked out from the record.

    Raises UsageError when there is no such run, FileFormatError when its files are damaged or of a
    newer hwnas.
    """
    path = Path(path)
    header = _read_header(path)
    config = SearchConfig.from_dict(header["config"], source=f"{path / RUN}: config")
    space = SearchSpace.from_dict(config.space, source=f"{path / RUN}: config.space")
    size = _size(path / CANDIDATES)
    trials, checked = read_candidates(path, config, space, plain=header["config"])
    if len(trials) < header["given"]:
        raise FileFormatError(
            f"{path}: has {len(trials)} of the {header['given']} candidates that it starts from: it was "
            "interrupted while they were copied, or lines were deleted. Remove the folder and start again"
        )
    return result_of(
        config,
        space,
        trials,
        trials_wanted=header["trials"],
        versions=header["versions"],
        started=str(header["started"]),
        path=path,
        verification=read_verification(path),
        work=header["work"],
        epochs=_read_epochs(path, header["config"]),
        given=header["given"],
        source=str(header.get("source") or ""),
        recorded_bytes=size,
        checked=checked,
    )


def reread(past: SearchResult) -> SearchResult:
    """A run as it is on disk now. Its candidates are parsed again only where the record has changed."""
    assert past.path is not None
    if _size(past.path / CANDIDATES) != past.recorded_bytes:
        return load_run(past.path)
    verification = read_verification(past.path)
    return past if verification == past.verification else extended(past, (), verification=verification)


def extended(
    past: SearchResult,
    trials: Sequence[Trial],
    *,
    epochs: Sequence[Epoch] = (),
    verification: Verification | None = None,
) -> SearchResult:
    """The run with further trials and epochs, which are recorded already."""
    return result_of(
        past.config,
        past.space,
        (*past.trials, *trials),
        trials_wanted=past.trials_wanted,
        versions=past.versions,
        started=past.started,
        path=past.path,
        verification=past.verification if verification is None else verification,
        work=past.work,
        epochs=(*past.epochs, *epochs),
        given=past.given,
        source=past.source,
        recorded_bytes=0 if past.path is None else _size(past.path / CANDIDATES),
        checked=past.checked,
    )


def candidate_log(path: Path) -> Log:
    """The log of a run's candidates, open for appending; what a kill left torn is cut off."""
    return Log(path / CANDIDATES, CANDIDATE_LOG, of=belongs_to(_read_header(path)["config"]))


def progress_log(path: Path) -> Log:
    """The log of the epochs of a search in arrays, open for appending, as `candidate_log`."""
    return Log(path / PROGRESS, PROGRESS_LOG, of=belongs_to(_read_header(path)["config"]))


def attention_types(arch: ArchSpec) -> frozenset[str]:
    """The attention types among a network's blocks."""
    return frozenset(block.type for stage in arch.stages for block in stage.blocks if block is not None)


def result_of(
    config: SearchConfig,
    space: SearchSpace,
    trials: Sequence[Trial],
    *,
    trials_wanted: int | None,
    versions: dict[str, str] | None = None,
    started: str = "",
    path: Path | None = None,
    verification: Verification | None = None,
    work: Mapping[str, Any] | None = None,
    epochs: Sequence[Epoch] = (),
    given: int = 0,
    source: str = "",
    recorded_bytes: int = 0,
    checked: bool = True,
) -> SearchResult:
    """The result that these trials make, with the front that `front.best` finds by attention types.

    The front of a finished verification of these trials stands in its stead. Raises FileFormatError
    when a vector no longer means the network it was recorded for.
    """
    result = SearchResult(
        config=config,
        space=space,
        trials_wanted=trials_wanted,
        trials=tuple(trials),
        front=[],
        versions=_versions() if versions is None else versions,
        started=started,
        path=path,
        verification=verification,
        work=dict(work or {}),
        epochs=tuple(epochs),
        given=given,
        source=source,
        recorded_bytes=recorded_bytes,
        checked=checked,
    )
    chosen = best(
        [pair for trial in trials for pair in in_each_configuration(trial, config)],
        kind=lambda trial: attention_types(space.decode(trial.vector)),
        minimised=config.minimised,
    )
    measured, corrected = dict[str, Estimate](), dict[str, Estimate]()
    if verification is not None:
        measured, corrected = verification.latencies, dict(verification.corrected)
        if result.is_verified:
            by_id = {trial.id: trial for trial in trials}
            if missing := [name for name in verification.front if name not in by_id]:
                raise FileFormatError(
                    f"{path}: its verification is of candidates that the run does not have: "
                    f"{', '.join(missing[:3])}. Delete {VERIFICATION} there to verify again"
                )
            chosen = [by_id[name] for name in verification.front]
    for trial in chosen:
        candidate = Candidate(trial, space, measured.get(trial.id), corrected.get(trial.id))
        if candidate.arch.id != trial.id:
            raise FileFormatError(
                f"{path}: candidate {trial.id} is another network to this hwnas ({candidate.arch.id}): "
                f"read the run with hwnas {(versions or {}).get('hwnas', 'of its own version')}"
            )
        result.front.append(candidate)
    return result


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the run for this process; raises UsageError when another process searches in it."""
    with ExitStack() as held:
        try:
            held.enter_context(lock.locked(path / LOCK))
        except lock.Busy:
            raise UsageError(
                f"{path}: another process is searching in this run; wait for it or stop it"
            ) from None
        yield


def discard_if_empty(path: Path) -> None:
    """Removes the files of a run that has no candidate, and its folder if nothing else is in it."""
    with suppress(OSError, HwnasError):
        if not read_log(path / CANDIDATES, CANDIDATE_LOG).rows:
            for name in (RUN, LOCK, *LEFTOVERS):
                (path / name).unlink(missing_ok=True)
            path.rmdir()


def _holds_something(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _read_epochs(run: Path, plain: Mapping[str, Any]) -> tuple[Epoch, ...]:
    path = run / PROGRESS
    contents = read_log(path, PROGRESS_LOG)
    check_belongs_to(path, contents, plain)
    epochs: list[Epoch] = []
    for number, row in contents.numbered():
        try:
            epoch = Epoch(**row)
            counts = (epoch.number, epoch.evaluated, epoch.recorded, epoch.front)
            if not all(type(count) is int and count >= 0 for count in counts):
                raise ValueError(f"counts must be whole numbers of at least 0, got {counts}")
            if epoch.number != len(epochs) or not float(epoch.hypervolume) >= 0:
                raise ValueError(f"number {epoch.number}, hypervolume {epoch.hypervolume!r}")
        except (TypeError, ValueError, OverflowError) as error:
            raise PROGRESS_LOG.damaged(path, number, str(error)) from None
        epochs.append(epoch)
    return tuple(epochs)


def _versions() -> dict[str, str]:
    versions = {"hwnas": hwnas.__version__, "python": platform.python_version()}
    for package in ("optuna", "numpy"):
        versions[package] = importlib.metadata.version(package)
    return versions


def _read_header(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise UsageError(f"no run at '{path}': a run is the folder that 'hwnas search' wrote")
    if not (path / RUN).is_file():
        raise UsageError(f"'{path}' is no run: it has no {RUN}, which 'hwnas search' writes first")
    header = yaml_io.read(path / RUN)
    schema = header.get("schema") if isinstance(header, dict) else None
    if type(schema) is not int or schema < 1:
        raise FileFormatError(f"{path / RUN}: schema must be from 1 to {FORMAT_VERSION}, got {schema!r}")
    if schema > FORMAT_VERSION:
        raise FileFormatError(f"{path / RUN}: schema {schema} is of a newer hwnas: upgrade hwnas to read it")
    try:
        json_io.require_checksum(header, has_one=schema >= 4)
    except json_io.JsonError as error:
        raise FileFormatError(
            f"{path / RUN}: {error}, so that its candidates may belong to another config. Restore it, or "
            "start a new run in another folder"
        ) from None
    header.setdefault("work", {})  # runs before workers have none
    header.setdefault("given", 0)
    if schema < 3:
        header["config"] = header.get("question")
    for key, kind in KEYS.items():
        if not isinstance(header.get(key), kind):
            raise FileFormatError(f"{path / RUN}: '{key}' is missing or of the wrong type")
    if "trials" not in header or not isinstance(header["trials"], int | None):
        raise FileFormatError(f"{path / RUN}: 'trials' is missing or of the wrong type")
    return dict(header)
