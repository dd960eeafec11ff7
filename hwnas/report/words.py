"""Numbers as the report says them: four digits, the interval, the deviation."""

from __future__ import annotations

from hwnas.estimate import Estimate

__all__ = ["interval", "number", "percent", "with_deviation"]


def number(value: float) -> str:
    """Four significant digits, zeros at the end kept: 20.00, 1235."""
    return f"{value:#.4g}".rstrip(".")


def with_deviation(estimate: Estimate) -> str:
    """The value, and its standard deviation where it has one: 71.30 ± 0.52."""
    return number(estimate.value) + (f" ± {estimate.std:.2g}" if estimate.std else "")


def interval(estimate: Estimate) -> str:
    """From low to high; empty where there is none."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{estimate.low:.4g} to {estimate.high:.4g}"


def percent(share: float) -> str:
    """A share of 1 as a whole percentage: 35 %."""
    return f"{100 * share:.0f} %"
