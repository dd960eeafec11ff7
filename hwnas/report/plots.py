"""The charts of a run as files for papers: PNG and SVG, one column wide.

The colours are those of Okabe and Ito (2008), which people with any kind of colour vision tell apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas import plugins
from hwnas.errors import HwnasError
from hwnas.report.chart import Front, in_sight
from hwnas.report.choices import preferences
from hwnas.report.dimensions import Dimension, dimensions
from hwnas.report.front import accuracy_title, axis_title, front_marks, published_marks
from hwnas.report.progress import box_of, progress
from hwnas.report.published import published_networks
from hwnas.report.spread import spread_over
from hwnas.report.ways import limits_of, points_of
from hwnas.search.run import SearchResult
from hwnas.space.ops import lower

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

    from hwnas.predictors.latency import LatencyTable

__all__ = ["FORMATS", "plots"]

FORMATS = ("png", "svg")
WIDTH_INCHES = 3.5
"""A column of a two-column paper."""
BARS = 8
"""Networks whose ops are shown: bars that can still be read in a column."""

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE, GREY, DARK = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
    "#BBBBBB",
    "#555555",
)
KINDS = {
    "reuse": BLUE,
    "single-head": VERMILION,
    "cascaded-group": GREEN,
    "element-wise": PURPLE,
    "dual-head": PURPLE,
    "ffn": SKY,
    "conv-ffn": SKY,
    "dw": ORANGE,
    "merge": YELLOW,
    "conv-pool": YELLOW,
    "stem": BLACK,
    "conv-pool-stem": BLACK,
    "head": DARK,
}
"""The colour of an op kind or an attention type; grey for any other."""

STYLE: Mapping[str, Any] = {
    "font.size": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "savefig.dpi": 300,
    "svg.hashsalt": "hwnas",  # the same run gives the same file
}

Drawing = Callable[["Axes"], None]


def plots(result: SearchResult, folder: Path, *, tables: Mapping[str, LatencyTable]) -> list[Path]:
    """Writes every plot that there is something to show for, in each of `FORMATS`, and returns the files.

    `tables` are those of the run's devices that are at hand: the published networks and the ops come from
    them. Raises MissingPackageError without matplotlib, HwnasError when a file cannot be written.
    """
    matplotlib = plugins.require("matplotlib", extra="plots")
    plugins.require("matplotlib.backends.backend_svg", extra="plots")
    from matplotlib.figure import Figure

    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, height_inches, draw in _drawings(result, tables):
            with matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE}):
                figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
                draw(figure.add_subplot())
                for suffix in FORMATS:
                    file = folder / f"{name}.{suffix}"
                    _save(figure, file)
                    written.append(file)
    except OSError as error:
        raise HwnasError(f"{folder}: the plots cannot be written: {error.strerror}") from None
    return written


def _drawings(
    result: SearchResult, tables: Mapping[str, LatencyTable]
) -> Iterator[tuple[str, float, Drawing]]:
    """The name of each plot, its height in inches, and what draws it."""
    found = dimensions(result.config)
    minimised = [one for one in found if one.minimised]
    for one in minimised:
        name = "front" if len(minimised) == 1 else f"front-{_slug(one.name)}"
        yield name, 2.6, lambda axes, one=one: _front(axes, result, one, tables)  # type: ignore[misc]
    if result.trials:
        yield "hypervolume", 2.0, lambda axes: _hypervolume(axes, result)
    known = result.verification
    if known is not None and known.measured:
        yield "measured", 2.6, lambda axes: _measured(axes, result)
    attention = [one for one in preferences(result) if one.what == "attention"]
    if attention and result.front:
        yield "choices", 0.7 + 0.5 * len(attention), lambda axes: _choices(axes, result)
    if result.front:
        for device, table in tables.items():
            name = "ops" if len(result.config.devices) == 1 else f"ops-{_slug(device)}"
            shown = spread_over(len(result.front), BARS)
            yield (
                name,
                1.0 + 0.2 * len(shown),
                lambda axes, device=device, table=table, shown=shown: _ops(  # type: ignore[misc]
                    axes, result, device, table, shown
                ),
            )


def _front(axes: Axes, result: SearchResult, along: Dimension, tables: Mapping[str, LatencyTable]) -> None:
    front = Front("front", front_marks(result, along))
    candidates = [
        (trial.number(along.name) / along.per_unit, trial.accuracy.value) for trial in result.trials
    ]
    bounds = [] if along.limit is None else [(along.limit, along.bound)]
    marks = published_marks(result, published_networks(result, tables), along)
    published, xs, ys = in_sight([front], candidates, marks, bounds)
    chain = front.chain
    if candidates:
        axes.scatter([x for x, _ in candidates], [y for _, y in candidates], s=3, color=GREY, alpha=0.6,
                     lw=0, label="evaluated", rasterized=True)  # fmt: skip
    reach = [mark for mark in chain if mark.left is not None and mark.right is not None]
    if len(reach) > 1:
        axes.fill_betweenx(
            [mark.accuracy for mark in reach],
            [mark.left or 0.0 for mark in reach],
            [mark.right or 0.0 for mark in reach],
            color=BLUE,
            alpha=0.12,
            lw=0,
        )
    aside = [mark for mark in front.marks if mark not in chain]
    if aside:
        axes.plot([mark.x for mark in aside], [mark.accuracy for mark in aside], "o", ms=3, color=SKY,
                  label="front, other objectives")  # fmt: skip
    if chain:
        axes.plot([mark.x for mark in chain], [mark.accuracy for mark in chain], "o-", ms=3, color=BLUE,
                  label="front")  # fmt: skip
        axes.errorbar(
            [mark.x for mark in front.named],
            [mark.accuracy for mark in front.named],
            yerr=[mark.accuracy - (mark.accuracy if mark.low is None else mark.low) for mark in front.named],
            fmt="none",
            elinewidth=0.5,
            ecolor=BLUE,
            alpha=0.6,
        )
    for x, words in bounds:
        axes.axvline(x, color=VERMILION, ls="--", lw=0.8, label=words)
    if published:
        axes.plot([mark.x for mark in published], [mark.accuracy for mark in published], "D", ms=4,
                  mfc="white", mec=PURPLE, mew=1, ls="", label="published")  # fmt: skip
    names = [
        axes.annotate(mark.name, (mark.x, mark.accuracy), (4, -2), textcoords="offset points", fontsize=6)
        for mark in sorted(published, key=lambda mark: -mark.accuracy)
    ]
    space = 0.05 * (max(ys) - min(ys)) or 1.0
    axes.set_ylim(min(ys) - space, max(ys) + space)
    margin = 0.04 * (max(xs) - min(xs)) or 1.0
    axes.set_xlim(min(xs) - margin, max(xs) + margin)
    axes.set_xlabel(axis_title(result, along))
    axes.set_ylabel(accuracy_title(result))
    axes.legend(loc="lower right")
    _without_overlaps(axes, names)


def _hypervolume(axes: Axes, result: SearchResult) -> None:
    points = points_of(result)
    box = box_of([points], limits=limits_of(result.config))
    assert box is not None  # there are trials
    known = progress(points, box)
    axes.step([*known.evaluations, known.total], [*known.shares, known.final], where="post", color=BLUE)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("evaluations")
    axes.set_ylabel("hypervolume")


def _measured(axes: Axes, result: SearchResult) -> None:
    known = result.verification
    assert known is not None
    latencies = known.latencies
    measured = {one.id: latencies[one.id].value for one in known.measured}
    predicted = {one.id: one.predicted.value for one in known.measured}
    corrected = {name: one.value for name, one in known.corrected.items()}
    every = [*measured.values(), *predicted.values(), *corrected.values()]
    axes.plot([min(every), max(every)], [min(every), max(every)], color=GREY, lw=0.8)
    for label, marker, colour, known_ms in (
        (f"{result.config.provenance} table", "o", BLUE, predicted),
        ("corrected table", "s", VERMILION, corrected),
    ):
        if known_ms:
            heights = [measured[name] for name in known_ms]
            axes.plot(list(known_ms.values()), heights, marker, ms=3, color=colour, label=label)
    axes.axhline(result.config.targets[0].budget_ms, color=VERMILION, ls="--", lw=0.8, label="budget")
    axes.set_xlabel("predicted (ms)")
    axes.set_ylabel("measured (ms)")
    axes.legend(loc="upper left")


def _choices(axes: Axes, result: SearchResult) -> None:
    """The attention types by stage: above what the front takes, below it what all evaluated take."""
    attention = [one for one in preferences(result) if one.what == "attention"]
    rows = [(f"stage {one.stage}, {who}", {share.choice: getattr(share, which) for share in one.shares})
            for one in attention for who, which in (("front", "front"), ("all", "evaluated"))]  # fmt: skip
    _stacked(axes, rows)
    axes.set_xlabel("share of the blocks")
    axes.set_xlim(0, 1)


def _ops(axes: Axes, result: SearchResult, device: str, table: LatencyTable, shown: Sequence[int]) -> None:
    """What each kind of op takes of each network shown."""
    rows = []
    for index in shown:
        ops = lower(result.front[index].arch)
        shares_ms, rest_ms = table.shares_ms(ops)
        by_kind: dict[str, float] = {}
        for op, ms in zip(ops, shares_ms, strict=True):
            by_kind[op.kind] = by_kind.get(op.kind, 0.0) + ms
        rows.append((f"#{index + 1}", by_kind | ({"rest": rest_ms} if rest_ms > 0 else {})))
    _stacked(axes, rows)
    place = f" on {device}" if len(result.config.devices) > 1 else ""
    axes.set_xlabel(f"latency{place}, {table.provenance} (ms)")


def _stacked(axes: Axes, rows: Sequence[tuple[str, Mapping[str, float]]]) -> None:
    """Horizontal bars, the first at the top, cut into parts by name."""
    names = list(dict.fromkeys(name for _, parts in rows for name in parts))
    heights = [-float(place) for place in range(len(rows))]
    left = [0.0] * len(rows)
    for name in names:
        widths = [parts.get(name, 0.0) for _, parts in rows]
        axes.barh(heights, widths, left=left, height=0.75, color=KINDS.get(name, GREY), ec="white", lw=0.4,
                  label=name)  # fmt: skip
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_yticks(heights, [label for label, _ in rows])
    axes.tick_params(axis="y", length=0)
    axes.margins(y=0.02)
    axes.spines["left"].set_visible(False)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, handlelength=1, columnspacing=1)


def _without_overlaps(axes: Axes, names: Sequence[Annotation]) -> None:
    """Puts names that reach beyond the axes on the other side, and hides those that lie on another."""
    axes.figure.draw_without_rendering()  # type: ignore[union-attr]
    kept: list[Bbox] = []
    for name in names:
        if name.get_window_extent().x1 > axes.get_window_extent().x1:
            name.set_horizontalalignment("right")
            name.xyann = (-4, -2)
        extent = name.get_window_extent()
        if any(extent.overlaps(other) for other in kept):
            name.set_visible(False)
        else:
            kept.append(extent)


def _save(figure: Figure, file: Path) -> None:
    without_date = {"Date": None} if file.suffix == ".svg" else {}
    figure.savefig(file, metadata=without_date)


def _slug(name: str) -> str:
    """A name as part of a file's name: `latency rpi4` -> `latency-rpi4`."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")
