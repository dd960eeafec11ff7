"""The run directory: what a search leaves behind, and takes up again after any kind of end.

    run.yaml          the question, versions, the number of candidates wanted; written once
    candidates.jsonl  a line for each evaluated network; only appended to
    front.json        the front, for other programs; rewritten at the end and at an interruption
    report.html       the same for people: `hwnas.report` writes it
    verification.json what measuring the front said, if that was asked for
    corrected-table.yaml  the latency table corrected with it
    lock              held by the process that searches; the system frees it when that process dies

Only the first two and the verification are read back; a kill between any two writes loses nothing.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hwnas
from hwnas.errors import FileFormatError, HwnasError, UsageError
from hwnas.estimate import Estimate
from hwnas.io import lock
from hwnas.io import yaml as yaml_io
from hwnas.io.atomic import write_atomically
from hwnas.io.jsonl import Log
from hwnas.search.candidates import CANDIDATE_LOG, CANDIDATES, belongs_to, read_candidates
from hwnas.search.config import Question
from hwnas.search.front import best
from hwnas.search.trial import Candidate, Trial
from hwnas.search.verification import VERIFICATION, Verification, read_verification
from hwnas.space.arch import ArchSpec
from hwnas.space.search_space import SearchSpace

__all__ = [
    "FRONT",
    "RUN",
    "SearchResult",
    "attention_types",
    "candidate_log",
    "create_run",
    "load_run",
    "locked",
    "next_folder",
    "result_of",
    "resume_command",
]

SCHEMA = 2  # 1: the first one, one device; 2: a question may have others, limits and objectives

KEYS = {"question": dict, "versions": dict, "trials": int, "started": str, "work": dict}
"""What run.yaml holds besides, and of which type."""
RUN, FRONT, LOCK = "run.yaml", "front.json", "lock"
LEFTOVERS = (CANDIDATES, FRONT, VERIFICATION)
"""What a run holds besides run.yaml, and a folder without one must not: it would be taken for its own."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found, with everything it takes to find it again."""

    question: Question
    space: SearchSpace
    trials_wanted: int
    trials: tuple[Trial, ...]
    """All evaluated networks, in the order of evaluation. All are within the budget."""
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
    checked: bool = True
    """Whether every line of the record has a checksum; False for runs of before there were any."""

    @property
    def is_verified(self) -> bool:
        """Whether the front is one of measured networks, chosen among all candidates there are."""
        known = self.verification
        return known is not None and known.is_complete and known.candidates == len(self.trials)

    @property
    def is_complete(self) -> bool:
        """Whether all candidates that were asked for are evaluated."""
        return len(self.trials) >= self.trials_wanted


def resume_command(path: Path) -> str:
    """The command line that takes this run up again."""
    return f"hwnas search --resume {shlex.quote(str(path))}"


def next_folder(parent: Path, device: str, budget_ms: float) -> Path:
    """The first of PARENT/DEVICE-BUDGET-1, -2, ... that does not exist."""
    stem = f"{Path(device).stem}-{budget_ms:g}ms"
    number = 1
    while (parent / f"{stem}-{number}").exists():
        number += 1
    return parent / f"{stem}-{number}"


def create_run(path: Path, question: Question, *, trials: int, work: Mapping[str, Any] | None = None) -> None:
    """Makes the directory and writes `run.yaml`.

    Of several processes that make one at once, one does. Raises UsageError when there is a run already,
    or when the folder cannot be written.
    """
    held = UsageError(
        f"{path}: holds a run already. Continue it with '{resume_command(path)}', or name another folder"
    )
    if (path / RUN).exists():
        raise held
    data = {
        "schema": SCHEMA,
        "hwnas": hwnas.__version__,
        "versions": _versions(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "trials": trials,
        "work": dict(work or {}),
        "question": question.to_dict(),
    }
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
            write_atomically(path / RUN, yaml_io.dump(data))
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
    question = Question.from_dict(header["question"], source=f"{path / RUN}: question")
    space = SearchSpace.from_dict(question.space, source=f"{path / RUN}: question.space")
    trials, checked = read_candidates(path, question, space, plain=header["question"])
    return result_of(
        question,
        space,
        trials,
        trials_wanted=header["trials"],
        versions=header["versions"],
        started=str(header["started"]),
        path=path,
        verification=read_verification(path),
        work=header.get("work", {}),
        checked=checked,
    )


def candidate_log(path: Path) -> Log:
    """The log of a run's candidates, open for appending; what a kill left torn is cut off."""
    return Log(path / CANDIDATES, CANDIDATE_LOG, of=belongs_to(_read_header(path)["question"]))


def attention_types(arch: ArchSpec) -> frozenset[str]:
    """The attention types among a network's blocks."""
    return frozenset(block.type for stage in arch.stages for block in stage.blocks if block is not None)


def result_of(
    question: Question,
    space: SearchSpace,
    trials: Sequence[Trial],
    *,
    trials_wanted: int,
    versions: dict[str, str] | None = None,
    started: str = "",
    path: Path | None = None,
    verification: Verification | None = None,
    work: Mapping[str, Any] | None = None,
    checked: bool = True,
) -> SearchResult:
    """The result that these trials make, with the front that `selection.best` finds by attention types.

    The front of a finished verification of these trials stands in its stead. Raises FileFormatError
    when a vector no longer means the network it was recorded for.
    """
    result = SearchResult(
        question=question,
        space=space,
        trials_wanted=trials_wanted,
        trials=tuple(trials),
        front=[],
        versions=_versions() if versions is None else versions,
        started=started,
        path=path,
        verification=verification,
        work=dict(work or {}),
        checked=checked,
    )
    chosen = best(
        trials,
        kind=lambda trial: attention_types(space.decode(trial.vector)),
        minimised=question.minimised,
    )
    measured, corrected = dict[str, Estimate](), dict[str, Estimate]()
    if verification is not None:
        measured, corrected = verification.latencies, dict(verification.corrected)
        if result.is_verified:
            by_id = {trial.id: trial for trial in trials}
            if missing := [name for name in verification.front if name not in by_id]:
                raise FileFormatError(
                    f"{path}: its verification is of candidates that the run does not have: "
                    f"{', '.join(missing[:3])}. Delete {VERIFICATION} there to verify anew"
                )
            chosen = [by_id[name] for name in verification.front]
    for trial in chosen:
        arch = space.decode(trial.vector)
        if arch.id != trial.id:
            raise FileFormatError(
                f"{path}: candidate {trial.id} is another network to this hwnas ({arch.id}): "
                f"read the run with hwnas {(versions or {}).get('hwnas', 'of its own version')}"
            )
        result.front.append(
            Candidate(
                trial.id,
                arch,
                trial.latency,
                trial.accuracy,
                params=trial.params,
                macs=trial.macs,
                measured=measured.get(trial.id),
                corrected=corrected.get(trial.id),
                also=trial.also,
            )
        )
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


def _holds_something(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


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
        raise FileFormatError(f"{path / RUN}: must say a schema from 1 to {SCHEMA}, got {schema!r}")
    if schema > SCHEMA:
        raise FileFormatError(f"{path / RUN}: schema {schema} is of a newer hwnas: upgrade hwnas to read it")
    header.setdefault("work", {})  # runs before workers have none
    for key, kind in KEYS.items():
        if not isinstance(header.get(key), kind):
            raise FileFormatError(f"{path / RUN}: '{key}' is missing or of the wrong type")
    return dict(header)
