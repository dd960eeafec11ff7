"""A network against the latency budgets that it was searched for, predicted anew for each device.

The one place where `train`, `supernet`, `dense` and `export` learn whether a changed network keeps its
budgets. Nothing is printed here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist, median
from typing import Any

from hwnas.errors import HwnasError, MissingOpError, OverBudgetError, UsageError
from hwnas.estimate import Estimate
from hwnas.predictors.latency.table import LatencyTable
from hwnas.space.arch import ArchSpec
from hwnas.space.changes import size_words
from hwnas.space.ops import OpSpec, lower
from hwnas.targets import Promise, Target

__all__ = ["TargetCheck", "check_targets", "hold_budgets", "latency_bound_ms", "tail_shares"]

ROUNDING = 1e-9
"""A network that was found at its budget is within it, whatever its last digit."""


@dataclass(frozen=True, slots=True)
class TargetCheck:
    """One network against one of its targets."""

    arch: ArchSpec
    target: Target
    predicted: Estimate | None = None
    """Latency of the network on the device, in ms; None when it cannot be predicted here."""
    held_ms: float | None = None
    """What is compared with the budget: the prediction, its quantile or its tail, in ms."""
    provenance: str = ""
    """Of the device's table: measured, transferred or estimated."""
    problem: str = ""
    """Why the target cannot be checked."""

    @property
    def is_over(self) -> bool:
        """Whether the network is known to exceed the budget."""
        return self.held_ms is not None and self.held_ms > self.target.budget_ms * (1 + ROUNDING)

    def __str__(self) -> str:
        """`at 64 px, stem stride 4: 24.6 ms on rpi4, over the 20 ms budget of its run (estimated, ...)`."""
        target, start = self.target, f"at {size_words(self.arch)}: "
        budget = f"the {target.budget_ms:g} ms budget of its run"
        if self.held_ms is None or self.predicted is None:
            return f"{start}cannot be checked against {budget} on {target.device}: {self.problem}"
        basis = [self.provenance]
        if self.predicted.low is not None and self.predicted.high is not None:
            basis.append(f"{self.predicted.low:.3g} to {self.predicted.high:.3g} ms")
        if target.confidence is not None:
            basis.append(f"held with probability {target.confidence:g}")
        if target.budget_on != "p50":
            basis.append(f"{target.budget_on} of single inferences")
        side = "over" if self.is_over else "within"
        held = _apart(self.held_ms, target.budget_ms)
        return f"{start}{held} ms on {target.device}, {side} {budget} ({', '.join(basis)})"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON outputs and model cards; numbers are None when they cannot be predicted."""
        low, high = (None, None) if self.predicted is None else (self.predicted.low, self.predicted.high)
        return {
            "device": self.target.device,
            "budget_ms": self.target.budget_ms,
            "confidence": self.target.confidence,
            "budget_on": self.target.budget_on,
            "predicted_ms": None if self.predicted is None else self.predicted.value,
            "low_ms": low,
            "high_ms": high,
            "held_ms": self.held_ms,
            "table": self.provenance or None,
            "within": None if self.held_ms is None else not self.is_over,
            "problem": self.problem or None,
        }


def check_targets(arch: ArchSpec, promise: Promise | None) -> tuple[TargetCheck, ...]:
    """The network against each target of its promise, in order; nothing without a promise."""
    return () if promise is None else tuple(_checked(arch, target) for target in promise.targets)


def hold_budgets(
    networks: Mapping[str, tuple[ArchSpec, Promise | None]],
    *,
    over_budget: str,
    say: Callable[[str], None],
    part: str = "",
) -> list[TargetCheck]:
    """Predict each network anew for the devices of its run, and say whether it is within the budgets.

    `networks` are by the name of what they are now. `part` says what of the network is predicted, where it
    is not the whole. A network that the run itself found is told, and never refused.

    Raises OverBudgetError when a changed network exceeds a budget and `over_budget` is not `ok`.
    """
    if over_budget not in ("stop", "ok"):
        raise UsageError(f"--over-budget must be stop or ok, got '{over_budget}'")
    every: list[TargetCheck] = []
    refused: list[str] = []
    for name, (arch, promise) in networks.items():
        checks = check_targets(arch, promise)
        every += checks
        changed = promise is not None and promise.network != arch.id
        for check in checks:
            line = f"{part}{check}" if len(networks) == 1 else f"{name}: {part}{check}"
            if check.is_over and changed and over_budget != "ok":
                refused.append(line)
            else:
                say(line)
    if refused:
        name, (arch, _) = next(iter(networks.items()))
        subject = f"'{name}' (id {arch.id}) is" if len(networks) == 1 else "These are"
        raise OverBudgetError(
            "\n".join(refused) + f"\n{subject} not what the run found. Search for networks of this size "
            f"(hwnas search with --image-size {arch.resolution} --stem-stride {arch.stem.stride} "
            f"--classes {arch.classes}), keep the size that the run found, or go on with --over-budget ok"
        )
    return every


def latency_bound_ms(latency: Estimate, confidence: float | None) -> float:
    """What a latency counts against a budget: its value, or its quantile at the requested confidence.

    The quantile takes the ratio of measured to predicted as log-normal, with the estimate's spread.
    """
    if confidence is None:
        return latency.value
    return latency.value * math.exp(NormalDist().inv_cdf(confidence) * latency.std / latency.value)


def tail_shares(table: LatencyTable) -> Callable[[OpSpec], tuple[float, float]]:
    """What an op adds to a network on a device, in ms: at its 95th percentile, and usually.

    Raises UsageError when the table has no 95th percentiles.
    """
    tails = {key: row.p95_ms / row.ms for key, row in table.rows.items() if row.p95_ms is not None}
    if not tails:
        raise UsageError(
            f"the table '{table.name}' knows no 95th percentiles: leave --budget-on p95 out, or "
            "measure the device (hwnas table build)"
        )
    usual = median(tails.values())

    def shares(op: OpSpec) -> tuple[float, float]:
        share = table.op_latency_ms(op)
        return share * tails.get(op.key, usual), share

    return shares


def _checked(arch: ArchSpec, target: Target) -> TargetCheck:
    try:
        table = LatencyTable.load(target.device)
        ops = lower(arch)
        predicted = table.predict_ops(ops)
        held_ms = latency_bound_ms(predicted, target.confidence)
        if target.budget_on == "p95":
            pairs = list(map(tail_shares(table), ops))
            held_ms *= sum(tail for tail, _ in pairs) / sum(usual for _, usual in pairs)
    except MissingOpError as error:
        return TargetCheck(arch, target, problem=f"its table has no row for {len(error.keys)} ops of it")
    except HwnasError as error:
        return TargetCheck(arch, target, problem=str(error).splitlines()[0])
    return TargetCheck(arch, target, predicted, held_ms, table.provenance)


def _apart(value: float, other: float) -> str:
    """The value with three significant digits, or with as many as tell it from the other one."""
    for digits in range(3, 10):
        text = f"{value:.{digits}g}"
        if value == other or float(text) != other:
            return text
    return f"{value:g}"
