"""The chart of measured against predicted latency as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from hwnas.report.axes import Size, figure, frame
from hwnas.report.chart import key, shape

__all__ = ["Agreement", "agreement_chart"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """One network that was measured: its time beside what was predicted, in ms."""

    measured: float
    predicted: float
    corrected: float | None
    """As the corrected table predicts it; None without one."""
    label: str


def agreement_chart(networks: Sequence[Agreement], *, budget_ms: float, how: str) -> str:
    """Measured against predicted ms, with the line on which both agree.

    `how` says what the predictions are; a second mark is where the corrected table puts a network.
    """
    marks = [(one.predicted, one.measured, 0, f"{one.label}, {how}") for one in networks]
    marks += [
        (one.corrected, one.measured, 1, f"{one.label}, corrected table")
        for one in networks
        if one.corrected is not None
    ]
    values = [value for predicted, measured, _, _ in marks for value in (predicted, measured)] + [budget_ms]
    low, high = min(values), max(values)

    def draw(size: Size) -> list[str]:
        x, y = size.horizontal(low, high), size.vertical(low, high)
        return [
            frame(size, x, y, x_title=f"predicted, {how} (ms)", y_title="measured (ms)"),
            f'<path class="agree" d="M{x.at(low)} {y.at(low)}L{x.at(high)} {y.at(high)}"/>'
            f'<path class="budget" d="M{size.left} {y.at(budget_ms)}H{size.right}"/>'
            f'<text x="{size.right - 4}" y="{y.at(budget_ms) - 5}" text-anchor="end">'
            f"budget {budget_ms:g} ms</text>",
            *(
                shape(
                    number, x.at(predicted), y.at(measured), f"s{number}", f"<title>{escape(label)}</title>"
                )
                for predicted, measured, number, label in marks
            ),
        ]

    chart = figure(draw, label="measured against predicted latency; the same numbers are in the table below")
    if all(one.corrected is None for one in networks):
        return chart
    return chart + key([(f"predicted, {how}", 0), ("predicted, corrected table", 1)], joined=False)
