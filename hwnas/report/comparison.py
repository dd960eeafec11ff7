"""Several runs side by side: whose front covers more, when it got there, and what was asked differently."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwnas.errors import UsageError
from hwnas.report.dimensions import dimensions, shown, within
from hwnas.report.progress import Box, Points, Progress, box_of, limits_of, points_of, progress
from hwnas.search import load_run, pareto
from hwnas.search.run import SearchResult, result_of

__all__ = ["Compared", "Comparison", "compare"]


@dataclass(frozen=True, slots=True)
class Compared:
    """One run among those compared."""

    name: str
    """Its folder, as short as it is unlike the others'."""
    result: SearchResult
    progress: Progress
    """Its hypervolume in the box of all runs."""
    on_joint_front: int
    """How many networks of its front no network of any of the fronts beats."""
    only_here: tuple[str, ...]
    """Ids of its front that no other front has, best accuracy first."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What setting runs side by side says."""

    runs: tuple[Compared, ...]
    box: Box | None
    """What all hypervolumes are measured in; None when no run evaluated anything."""
    coverage: tuple[tuple[float | None, ...], ...]
    """Row a, column b: the share of b's front that some network of a's front is as good as, in all
    objectives at once; None where b's front is empty. C(a, b) of Zitzler and Thiele (1999)."""
    common: tuple[str, ...]
    """Ids that are on every front."""
    settings: Mapping[str, tuple[str, ...]]
    """What differs between the runs: a text for each run."""
    notes: tuple[str, ...]
    """What a reader must know before comparing numbers."""

    @property
    def common_evaluations(self) -> int:
        """How many evaluations the shortest run has."""
        return min(len(one.result.trials) for one in self.runs)

    @property
    def lowest(self) -> float:
        """The hypervolume that every run reached in the end."""
        return min(one.progress.final for one in self.runs)


def compare(paths: Sequence[Path | str], *, allow_mismatch: bool = False) -> Comparison:
    """Two or more runs that ask for the same, side by side; budgets, spaces and samplers may differ.

    Fronts are measured ones where all runs are verified, and predicted ones otherwise. Raises UsageError
    for fewer than two runs, for one named twice, for runs that minimise different things, and, unless
    mismatches are allowed, when their devices, tables or accuracy estimators differ; and what `load_run`
    raises.
    """
    folders = [Path(path) for path in paths]
    if len(folders) < 2:
        raise UsageError(f"a comparison needs two runs or more, got {len(folders)}: hwnas compare RUN RUN")
    resolved = [folder.resolve() for folder in folders]
    twice = [str(folder) for folder in folders if resolved.count(folder.resolve()) > 1]
    if twice:
        raise UsageError(f"each run is compared once, got {' and '.join(twice)}, which are one")
    names = _short(folders)
    results = [load_run(folder) for folder in folders]
    notes = _mismatches(names, results, allow_mismatch=allow_mismatch)
    results, said = _of_one_kind(names, results)
    notes += said
    points = [points_of(result) for result in results]
    box = box_of(points, limits=_limits(results))
    fronts = [_front_points(result) for result in results]
    ids = [[candidate.id for candidate in result.front] for result in results]
    joint = _on_joint_front(fronts)
    return Comparison(
        runs=tuple(
            Compared(
                name,
                result,
                Progress((), (), total=0) if box is None else progress(own, box),
                on_joint_front=best,
                only_here=tuple(one for one in ids[place] if sum(one in other for other in ids) == 1),
            )
            for place, (name, result, own, best) in enumerate(zip(names, results, points, joint, strict=True))
        ),
        box=box,
        coverage=tuple(tuple(_coverage(one, other) for other in fronts) for one in fronts),
        common=tuple(one for one in ids[0] if all(one in other for other in ids)),
        settings=_settings(results),
        notes=tuple(notes),
    )


def _short(folders: Sequence[Path]) -> list[str]:
    """The folders' names, or their whole paths where two have one name."""
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def _mismatches(names: Sequence[str], results: Sequence[SearchResult], *, allow_mismatch: bool) -> list[str]:
    """What keeps the runs' numbers from meaning the same, as notes; raises UsageError for it."""
    configs = [result.config for result in results]
    for what, texts in (
        ("minimise", [", ".join(config.minimised) for config in configs]),
        ("give the accuracy in", [config.accuracy_unit or "no unit" for config in configs]),
    ):
        if len(set(texts)) > 1:
            raise UsageError(
                f"compared runs must {what} the same; {_differing(names, texts)}. Compare runs that do"
            )
    digests = [" ".join(table.digest[:12] for table in config.tables) for config in configs]
    differing = [
        f"{what}: {_differing(names, texts)}"
        for what, texts in (
            ("device", [", ".join(config.devices) for config in configs]),
            ("latency table", digests),
            ("accuracy estimator", [config.accuracy for config in configs]),
        )
        if len(set(texts)) > 1
    ]
    if differing and not allow_mismatch:
        raise UsageError(
            f"runs that are compared must have the same devices, latency tables and accuracy estimator; "
            f"these differ in their {'; '.join(differing)}. Search again with the same, or give "
            "--allow-mismatch to see them side by side all the same"
        )
    notes = [
        f"These runs differ in their {one}. Their numbers do not mean the same: hypervolumes and coverage "
        "compare unlike things."
        for one in differing
    ]
    bounds = [within(config) for config in configs]
    if len(set(bounds)) > 1:
        notes.append(f"The bounds differ, and a wider one has more room: {_differing(names, bounds)}.")
    return notes


def _differing(names: Sequence[str], texts: Sequence[str]) -> str:
    return ", ".join(f"{text} in {name}" for name, text in zip(names, texts, strict=True))


def _of_one_kind(
    names: Sequence[str], results: Sequence[SearchResult]
) -> tuple[list[SearchResult], list[str]]:
    """The results with fronts that are all measured or all predicted, and what to say about it."""
    verified = [name for name, result in zip(names, results, strict=True) if result.is_verified]
    if len(verified) == len(results):
        return list(results), [
            "All fronts are verified and compared by their measured latencies; the hypervolume over the "
            "evaluations is by predicted ones."
        ]
    if not verified:
        return list(results), []
    return [_unverified(result) for result in results], [
        f"Fronts are compared by predicted latencies, since not all are verified: what was measured of "
        f"{', '.join(verified)} is left out."
    ]


def _unverified(result: SearchResult) -> SearchResult:
    """The run as it was before its front was measured."""
    return result_of(
        result.config,
        result.space,
        result.trials,
        trials_wanted=result.trials_wanted,
        versions=result.versions,
        started=result.started,
        path=result.path,
    )


def _limits(results: Sequence[SearchResult]) -> list[float | None]:
    """The widest limit of each minimised dimension; None where a run has none."""
    limits = zip(*(limits_of(result.config) for result in results), strict=True)
    return [
        None if any(limit is None for limit in each) else max(limit for limit in each if limit is not None)
        for each in limits
    ]


def _front_points(result: SearchResult) -> Points:
    """The front with everything minimised, shape (N, objectives)."""
    minimised = [one for one in dimensions(result.config) if one.minimised]
    points = [
        [*(shown(result, candidate, one).value for one in minimised), -candidate.accuracy.lower_bound()]
        for candidate in result.front
    ]
    return np.array(points, dtype=float).reshape(len(points), len(minimised) + 1)


def _coverage(one: Points, other: Points) -> float | None:
    if len(other) == 0:
        return None
    return float(np.mean([(one <= point).all(axis=1).any() for point in other]))


def _on_joint_front(fronts: Sequence[Points]) -> list[int]:
    """How many of each front's networks are on the front of all."""
    joint = pareto.front(np.concatenate(fronts))
    ends = np.cumsum([len(points) for points in fronts])
    return [
        int(sum(end - len(points) <= index < end for index in joint))
        for points, end in zip(fronts, ends.tolist(), strict=True)
    ]


def _settings(results: Sequence[SearchResult]) -> dict[str, tuple[str, ...]]:
    """Every setting that is not the same in all runs."""
    described = [_described(result) for result in results]
    names = dict.fromkeys(name for one in described for name in one)
    texts = {name: tuple(one.get(name, "") for one in described) for name in names}
    return {name: values for name, values in texts.items() if len(set(values)) > 1}


def _described(result: SearchResult) -> dict[str, str]:
    config = result.config
    space = hashlib.sha256(json.dumps(config.space, sort_keys=True).encode()).hexdigest()
    return {
        "devices": ", ".join(config.devices),
        "latency tables": ", ".join(f"{name} {digest[:12]}" for name, digest in config.digests.items()),
        "within": within(config),
        "confidence": "" if config.confidence is None else f"{config.confidence:g}",
        "accuracy estimator": config.accuracy,
        "space": f"{config.space.get('name', '')} ({space[:8]})",
        "sampler": config.sampler,
        "engine": config.engine,
        "seed": str(config.seed),
        "candidates": result.remaining,
        "verified": "yes" if result.is_verified else "no",
        "versions": ", ".join(f"{name} {version}" for name, version in result.versions.items()),
    }
