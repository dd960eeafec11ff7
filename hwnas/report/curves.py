"""The chart of hypervolume over evaluations as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from hwnas.report.axes import Size, figure, frame
from hwnas.report.chart import SERIES
from hwnas.report.progress import Progress

__all__ = ["Curve", "progress_chart"]


@dataclass(frozen=True, slots=True)
class Curve:
    """A hypervolume that grows, its name, its number among several."""

    name: str
    progress: Progress
    number: int = 0

    @property
    def style(self) -> str:
        """The class of its colour."""
        return f"s{self.number % SERIES}"


def progress_chart(curves: Sequence[Curve]) -> str:
    """Hypervolume against evaluations on a logarithmic axis, a step at each that raised it."""
    total = max((curve.progress.total for curve in curves), default=1)
    best = max((curve.progress.final for curve in curves), default=1.0)

    def draw(size: Size) -> list[str]:
        x, y = size.horizontal(1, max(total, 2), log=True), size.vertical(0, best or 1.0)
        parts = [frame(size, x, y, x_title="evaluations", y_title="hypervolume, in parts of the box")]
        for curve in curves:
            known = curve.progress
            steps, height = [f"M{x.at(1)} {y.at(0)}"], 0.0
            for count, share in zip(known.evaluations, known.shares, strict=True):
                steps.append(f"L{x.at(count)} {y.at(height)}V{y.at(share)}")
                height = share
            steps.append(f"H{x.at(max(known.total, 1))}")
            parts.append(
                f'<path class="line {curve.style}" d="{"".join(steps)}">'
                f"<title>{escape(curve.name)}: {known.final:.4f} after {known.total}</title></path>"
            )
        return parts

    said = "; ".join(
        f"{curve.name} {curve.progress.final:.4f} after {curve.progress.total} evaluations"
        for curve in curves
    )
    return figure(draw, label=f"hypervolume over evaluations: {said}")
