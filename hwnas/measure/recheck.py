"""Does a latency table hold for another version of its runtime? A few networks, measured, decide.

Networks that the table has all ops of are drawn and timed whole, by the clock: a version that makes all
networks faster makes the reference network faster too, so that no other scale would show it. Their times
are compared with the predictions. The answer is one of three: the table holds; it holds after one factor;
it does not hold.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hwnas.errors import UsageError
from hwnas.measure.networks import MeasuredNetwork
from hwnas.measure.plan import of_any_size
from hwnas.metrics import mape_percent
from hwnas.predictors.latency.correction import scaled_table
from hwnas.predictors.latency.heldout import HeldOut, HeldOutNetwork
from hwnas.predictors.latency.profile import DeviceProfile
from hwnas.predictors.latency.table import LatencyTable
from hwnas.space.arch import ArchSpec
from hwnas.space.ops import lower
from hwnas.space.presets import preset, preset_names
from hwnas.space.search_space import SearchSpace
from hwnas.types import Floats

__all__ = ["ACCEPTED", "CORRECTED", "FEWEST", "REFUSED", "Outcome", "corrected_table", "judge", "networks_of"]

FEWEST = 4
"""Networks below which nothing can be said."""
ACCEPTED, CORRECTED, REFUSED = "accepted", "corrected", "refused"
SHARE_INSIDE = 0.7
"""Of the networks, at least so many must lie inside the table's 90 % interval: with ten networks and a table
that holds, fewer do in one case of 80."""
SMALLEST_INTERVAL = 0.02
"""Relative: two occasions on one machine differ by as much, whatever a table says."""
DRAWS = 3000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the measured networks say of a table."""

    verdict: str
    """ACCEPTED, CORRECTED or REFUSED."""
    factor: float
    """Measured over predicted, in the median."""
    mape_percent: float
    """Of the table's predictions as they are."""
    corrected_mape_percent: float
    """The same with the factor, each network predicted by the factor of the others."""
    inside: int
    """Networks within the table's 90 % interval."""
    networks: int

    def __str__(self) -> str:
        return (
            f"{self.mape_percent:.1f} % mean error on {self.networks} networks, {self.inside} of them "
            "within the "
            f"90 % interval; measured times are {self.factor:.3f} times the predicted ones in the median"
        )


def networks_of(table: LatencyTable, count: int, *, seed: int = 0) -> dict[str, ArchSpec]:
    """`count` networks of all sizes that the table can predict, by name; presets where it has no others.

    Raises UsageError when there are fewer than FEWEST.
    """
    rng = random.Random(f"{seed}/recheck")
    space = SearchSpace.default()
    measured = {item.label for item in table.heldout.networks}
    found: dict[str, ArchSpec] = {}
    for _ in range(DRAWS):
        if len(found) == count:
            return found
        arch = of_any_size(space, rng)
        if f"random-{arch.id}" not in measured and not table.missing(lower(arch)):
            found[f"random-{arch.id}"] = arch
    for name in preset_names():
        if len(found) < count and not table.missing(lower(preset(name))):
            found[name] = preset(name)
    if len(found) < FEWEST:
        raise UsageError(
            f"the table '{table.name}' has all ops of only {len(found)} networks of the default space "
            f"and presets; {FEWEST} are needed. Build it again: hwnas table build --name {table.name}"
        )
    return found


def judge(
    table: LatencyTable, archs: Mapping[str, ArchSpec], measured: Mapping[str, MeasuredNetwork]
) -> Outcome:
    """What these networks, measured with the version in question, say of the table."""
    predicted = np.array([table.predict(arch).value for arch in archs.values()])
    clock = np.array([measured[name].raw_ms for name in archs])
    noise = np.array([_log_std(measured[name].clock_ms) for name in archs])
    logs = np.log(clock / predicted)
    others = np.array([np.median(np.delete(logs, place)) for place in range(len(logs))])
    reach = np.hypot(max(math.log(table.heldout.factor(0.9)), SMALLEST_INTERVAL), 1.645 * noise)
    inside = int(np.sum(np.abs(logs) <= reach))
    inside_corrected = int(np.sum(np.abs(logs - others) <= reach))
    enough = SHARE_INSIDE * len(logs)
    verdict = ACCEPTED if inside >= enough else CORRECTED if inside_corrected >= enough else REFUSED
    return Outcome(
        verdict=verdict,
        factor=float(np.exp(np.median(logs))),
        mape_percent=mape_percent(clock, predicted),
        corrected_mape_percent=mape_percent(clock, predicted * np.exp(others)),
        inside=inside,
        networks=len(logs),
    )


def corrected_table(
    table: LatencyTable,
    outcome: Outcome,
    archs: Mapping[str, ArchSpec],
    measured: Mapping[str, MeasuredNetwork],
    *,
    name: str,
    profile: DeviceProfile,
    created: str,
) -> LatencyTable:
    """The table times the outcome's factor, for the version that was measured.

    Its held-out networks are scaled along, and the measured ones added to them.
    """
    kept = [
        HeldOutNetwork(item.label, item.measured_ms * outcome.factor, item.predicted_ms * outcome.factor)
        for item in table.heldout.networks
    ]
    new = [
        HeldOutNetwork(label, measured[label].raw_ms, outcome.factor * table.predict(arch).value)
        for label, arch in archs.items()
    ]
    fact = {
        "from": table.profile.runtime_version,
        "factor": outcome.factor,
        "networks": outcome.networks,
        "mape_before_percent": outcome.mape_percent,
        "mape_after_percent": outcome.corrected_mape_percent,
    }
    return dataclasses.replace(
        scaled_table(table, outcome.factor),
        name=name,
        profile=dataclasses.replace(table.profile, runtime_version=profile.runtime_version),
        heldout=HeldOut(
            (*kept, *new), method=f"{table.heldout.method}; rechecked", fresh_std=table.heldout.fresh_std
        ),
        measurement={**table.measurement, "recheck": fact},
        notes=(
            *table.notes,
            f"Measured with {profile.runtime} {table.profile.runtime_version}, multiplied by "
            f"{outcome.factor:.3f} for {profile.runtime_version} after {outcome.networks} networks were "
            "measured "
            f"({outcome.mape_percent:.1f} % error before, {outcome.corrected_mape_percent:.1f} % after).",
        ),
        created=created,
    )


def _log_std(rounds_ms: Sequence[float]) -> float:
    """Standard error of the median of the rounds, relative."""
    logs: Floats = np.log(np.asarray(rounds_ms, dtype=float))
    return float(1.2533 * logs.std(ddof=1) / np.sqrt(len(logs))) if len(logs) > 1 else 0.0
