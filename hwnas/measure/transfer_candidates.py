"""The networks a transfer is about: drawn from the space; a few to be measured, the others predicted."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hwnas import plugins
from hwnas.errors import MissingOpError, UsageError
from hwnas.measure.plan import REFERENCE_NETWORK, Plan, of_any_size
from hwnas.predictors.latency.features import features
from hwnas.predictors.latency.table import LatencyTable
from hwnas.predictors.latency.transfer.model import choose_samples
from hwnas.space.arch import ArchSpec
from hwnas.space.ops import OpSpec, lower
from hwnas.space.presets import preset
from hwnas.space.search_space import SearchSpace

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Candidates", "compare_networks", "draw_candidates", "plan_samples"]

CANDIDATES = 300
"""Networks drawn, of which a few are measured and the others predicted."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Networks of a space, and what is known of each before anything is measured."""

    archs: Mapping[str, ArchSpec]
    """By label."""
    tables: tuple[LatencyTable, ...]
    features: pd.DataFrame
    """A row a network: what it consists of."""
    known: pd.DataFrame
    """A row a network, a column a table: milliseconds; NaN where a table lacks one of its ops."""

    def choose(self, count: int, seed: int) -> tuple[tuple[str, ArchSpec], ...]:
        """The networks to measure, the most telling first."""
        labels = choose_samples(self.features, self.known, count, seed)
        return tuple((str(label), self.archs[str(label)]) for label in labels)


def draw_candidates(space: SearchSpace, tables: Sequence[LatencyTable], *, seed: int) -> Candidates:
    """300 networks of all sizes, the same ones for the same seed; raises as `compare_networks` does."""
    rng = random.Random(f"{seed}/candidates")
    archs: dict[str, ArchSpec] = {}
    for _ in range(20 * CANDIDATES):  # a small space may have fewer
        if len(archs) == CANDIDATES:
            break
        arch = of_any_size(space, rng)
        archs[f"random-{arch.id}"] = arch
    return compare_networks(archs, tables)


def compare_networks(archs: Mapping[str, ArchSpec], tables: Sequence[LatencyTable]) -> Candidates:
    """These networks, by label, with what the tables predict for them.

    Raises UsageError where there is no table, or one that knows none of them, and MissingPackageError
    without pandas.
    """
    pd: Any = plugins.require("pandas", extra="transfer")
    if not tables:
        raise UsageError("transfer needs the table of at least one known device, got none")
    lowered = {label: lower(arch) for label, arch in archs.items()}
    known = pd.DataFrame(
        {table.name: [_known_ms(table, ops) for ops in lowered.values()] for table in tables},
        index=list(archs),
    )
    for table in tables:
        if known[table.name].isna().all():
            raise UsageError(
                f"the table '{table.name}' has rows for none of these networks: give other tables with --from"
            )
    told = pd.DataFrame([features(ops) | {"ops": len(ops)} for ops in lowered.values()], index=list(archs))
    return Candidates(dict(archs), tuple(tables), told, known)


def plan_samples(candidates: Candidates, count: int, *, passes: int, seed: int) -> Plan:
    """What to measure: so many of the candidates, the most telling ones, as whole networks."""
    return Plan(
        ops=(),
        filled=(),
        drawn=candidates.choose(count, seed),
        spread=(),
        reference=(REFERENCE_NETWORK, preset(REFERENCE_NETWORK)),
        passes=passes,
        seed=seed,
    )


def _known_ms(table: LatencyTable, ops: Sequence[OpSpec]) -> float:
    try:
        return table.predict_ops(ops).value
    except MissingOpError:
        return float("nan")
