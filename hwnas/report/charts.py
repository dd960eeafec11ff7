"""Every chart as a Vega-Lite specification: the page draws it in the browser, `--plots` draws it to files.

Colours are those of Okabe and Ito (2008), which people with any kind of colour vision tell apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwnas.report.dimensions import number
from hwnas.report.fronts import Front, FrontView, Mark
from hwnas.report.progress import Progress

__all__ = [
    "CONFIG",
    "DARK_THEME",
    "KINDS",
    "PALETTE",
    "SERIES",
    "Agreement",
    "Chart",
    "DeviceTimes",
    "Objective",
    "OpTime",
    "agreement_chart",
    "choices_chart",
    "confusion_chart",
    "curves_chart",
    "front_chart",
    "ops_chart",
    "parallel_chart",
    "progress_chart",
]

Spec = dict[str, Any]
"""A Vega-Lite specification."""

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE, GREY, DARK = PALETTE = (
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

SERIES = (BLUE, VERMILION, GREEN, BLACK, PURPLE, SKY)
"""The colours of several fronts or curves; more of them start again."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
DASHES = ([1, 0], [8, 3], [3, 3], [9, 3, 2, 3], [14, 4], [5, 2, 1, 2])

INK, SOFT, LINE, GROUND = "#1c2024", "#5d6670", "#dfe2e6", "#ffffff"
DARK_THEME = {
    INK: "#e8eaed",
    SOFT: "#a3abb5",
    LINE: "#333a42",
    GROUND: "#1c2024",
    BLACK: "#e8eaec",
    DARK: "#8d969f",
    GREY: "#68727d",
}
"""What these colours become on a dark page."""

CONFIG: Spec = {
    "font": "system-ui, sans-serif",
    "background": None,
    "view": {"stroke": None},
    "axis": {
        "labelColor": SOFT,
        "titleColor": SOFT,
        "titleFontWeight": "normal",
        "titleFontSize": 12,
        "labelFontSize": 11,
        "gridColor": LINE,
        "domainColor": LINE,
        "tickColor": LINE,
    },
    "legend": {
        "labelColor": SOFT,
        "labelFontSize": 11,
        "title": None,
        "orient": "top",
        "direction": "horizontal",
        "symbolStrokeWidth": 2,
    },
    "text": {"color": SOFT, "fontSize": 11},
}
"""The look that all charts share."""

NARROW_PX, WIDE_PX = 300, 680
"""Widths of the drawing area that names are placed for: a phone, a wide screen."""
HEIGHT_PX = 360
GRID = (400, 250)
"""Candidates that fall into one cell of so many columns and rows are drawn once."""


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart; its width is that of the place it is drawn in."""

    name: str
    """Of its file, as `front-params`."""
    description: str
    """What it shows, for those who do not see it."""
    spec: Spec
    """Vega-Lite, without width and config."""


@dataclass(frozen=True, slots=True)
class Objective:
    """One axis of the chart of all objectives: its words, each network's number, which end is better."""

    words: tuple[str, ...]
    values: tuple[float, ...]
    best: float
    worst: float

    def height(self, index: int) -> float:
        """Where the network's line meets the axis: 1 is the best, 0 the worst."""
        if self.best == self.worst:
            return 0.5
        return (self.values[index] - self.worst) / (self.best - self.worst)


@dataclass(frozen=True, slots=True)
class Agreement:
    """One network that was measured: its time beside what was predicted."""

    measured_ms: float
    predicted_ms: float
    corrected_ms: float | None
    """As the corrected table predicts it; None without one."""
    label: str


@dataclass(frozen=True, slots=True)
class OpTime:
    """What one op of a network takes on a device."""

    place: str
    key: str
    kind: str
    ms: float


@dataclass(frozen=True, slots=True)
class DeviceTimes:
    """What the ops of some networks of the front take on one device."""

    device: str
    title: str
    """`latency on rpi4, estimated (ms)`."""
    column: str
    bars: tuple[tuple[OpTime, ...], ...]
    """For each network its ops in the order they run, then what is besides them."""

    def total_ms(self, index: int) -> float:
        """The latency of one of the networks."""
        return sum(op.ms for op in self.bars[index])


def front_chart(view: FrontView, *, name: str = "front") -> Chart:
    """Fronts with their networks, all candidates faint, published networks by name, bounds as lines.

    A line joins the networks that no other of the front beats in this chart; its band is their interval
    along x.
    """
    published, xs, ys = view.in_sight()
    x_domain, y_domain = _domain(xs), _domain(ys)
    x = _axis("x", view.x_title, x_domain)
    y = _axis("y", view.accuracy_title, y_domain)
    several = len(view.fronts) > 1
    colour = _series("front", [front.name for front in view.fronts]) if several else {"value": BLUE}
    shape = (
        {
            "field": "front",
            "scale": {"domain": [one.name for one in view.fronts], "range": _cycle(SHAPES, len(view.fronts))},
        }
        if several
        else {"value": "circle"}
    )
    marks = [_point(mark, front, id(mark) in {id(one) for one in front.chain})
             for front in view.fronts for mark in front.marks]  # fmt: skip
    layers: list[Spec] = []
    if view.candidates:
        layers.append(_layer(
            _thinned(view.candidates, x_domain, y_domain),
            {"type": "point", "filled": True, "size": 8, "color": GREY, "opacity": 0.5, "clip": True},
            x=x, y=y,
        ))  # fmt: skip
    bounds: list[Spec] = [{"x": value, "words": words} for value, words in dict.fromkeys(view.bounds)]
    if bounds:
        rule = {"type": "rule", "color": VERMILION, "strokeDash": [5, 4]}
        layers.append(_layer(bounds, rule, x=x))
        at_left = [one for one in bounds if _share(one["x"], x_domain) < 0.4]
        for side, some in (("left", at_left), ("right", [one for one in bounds if one not in at_left])):
            if some:
                text = {"type": "text", "align": side, "baseline": "top", "dx": 6 if side == "left" else -6}
                layers.append(_layer(some, text, x=x, y={"value": 2}, text={"field": "words"}))
    bands = [
        {"x": mark.left, "x2": mark.right, "y": mark.accuracy, "front": front.name}
        for front in view.fronts
        for mark in front.chain
        if mark.left is not None and mark.right is not None
    ]
    if bands:
        area = {"type": "area", "orient": "horizontal", "opacity": 0.12, "clip": True}
        layers.append(
            _layer(bands, area, x=x, x2={"field": "x2"}, y=y, color=colour, detail={"field": "front"})
        )
    chains = [
        {"x": mark.x, "y": mark.accuracy, "front": front.name}
        for front in view.fronts
        for mark in front.chain
    ]
    dash = {"field": "front", "legend": None, "scale": {"range": _cycle(DASHES, len(view.fronts))}}
    layers.append(_layer(
        chains, {"type": "line"}, x=x, y=y, color=colour, order={"field": "x", "type": "quantitative"},
        **({"strokeDash": dash} if several else {}),
    ))  # fmt: skip
    errors = [
        {"x": mark.x, "y": mark.low, "y2": mark.high, "front": front.name}
        for front in view.fronts
        for mark in front.named
        if mark.low is not None and mark.high is not None and mark.high > mark.low
    ]
    if errors:
        layers.append(_layer(errors, {"type": "rule", "opacity": 0.4, "clip": True}, x=x, y=y,
                             y2={"field": "y2"}, color=colour))  # fmt: skip
    presets = [{"x": one.x, "y": one.accuracy, "label": one.label, "name": one.name}
               for one in sorted(published, key=lambda one: -one.accuracy)]  # fmt: skip
    if presets:
        layers.append(_layer(
            presets,
            {"type": "point", "shape": "diamond", "size": 70, "filled": True, "fill": GROUND,
             "stroke": PURPLE, "strokeWidth": 1.8, "opacity": 1},
            x=x, y=y, tooltip={"field": "label"},
        ))  # fmt: skip
    picked = {"test": "datum.rank === picked", "value": 220}
    layers.append(_layer(
        marks, {"type": "point", "filled": True, "stroke": GROUND, "strokeWidth": 1},
        x=x, y=y, color=colour, shape=shape, tooltip={"field": "label"},
        size={"condition": picked, "value": 60},
        opacity={"condition": {"test": "datum.joined", "value": 1}, "value": 0.35},
    ))  # fmt: skip
    named = [
        *sorted(published, key=lambda one: -one.accuracy),
        *(one for front in view.fronts for one in front.named),
    ]
    layers += _names(named, x_domain, y_domain, x, y)
    return Chart(
        name,
        f"{view.accuracy_title} against {view.x_title}; the same numbers are in the tables below",
        {"height": HEIGHT_PX, "params": [{"name": "picked", "value": 0}], "layer": layers},
    )


def parallel_chart(objectives: Sequence[Objective], labels: Sequence[str]) -> Chart:
    """Parallel coordinates of the front (Inselberg 1985); higher up is better on every axis.

    `labels` are the networks' tooltips, best accuracy first.
    """
    thirds = ("the most accurate third", "the middle", "the least accurate third")
    threads = [
        {
            "rank": index + 1,
            "label": label,
            "third": thirds[3 * index // len(labels)],
            "objective": place,
            "value": one.values[index],
            "height": round(one.height(index), 4),
        }
        for index, label in enumerate(labels)
        for place, one in enumerate(objectives)
    ]
    ends = [
        {"objective": place, "height": height, "text": number(value)}
        for place, one in enumerate(objectives)
        for value, height in ((one.best, 1.0), (one.worst, 0.0))
    ]
    x = {"field": "objective", "type": "ordinal", "axis": None, "scale": {"type": "point", "padding": 0.4}}
    y = {"field": "height", "type": "quantitative", "axis": None, "scale": {"domain": [-0.1, 1.35]}}
    axes = [
        {"objective": place, "words": list(filter(None, one.words)), "low": 0, "high": 1}
        for place, one in enumerate(objectives)
    ]
    top = {"filter": "datum.height == 1"}
    layers: list[Spec] = [
        _layer(axes, {"type": "rule", "color": SOFT}, x=x, y=y | {"field": "low"}, y2={"field": "high"}),
        _layer(axes, {"type": "text", "baseline": "top"}, x=x, y={"value": 2}, text={"field": "words"}),
        _layer(ends, {"type": "text", "baseline": "bottom", "dy": -6, "color": INK}, x=x, y=y,
               text={"field": "text"}) | {"transform": [top]},
        _layer(ends, {"type": "text", "baseline": "top", "dy": 8, "color": INK}, x=x, y=y,
               text={"field": "text"}) | {"transform": [{"filter": "datum.height == 0"}]},
        _layer(
            threads, {"type": "line"}, x=x, y=y, detail={"field": "rank"}, tooltip={"field": "label"},
            color={"field": "third", "scale": {"domain": list(thirds), "range": [BLUE, GREY, VERMILION]},
                   "legend": {"orient": "bottom", "columns": 3}},
            opacity={"condition": {"test": "datum.rank === picked", "value": 1}, "value": 0.5},
            strokeWidth={"condition": {"test": "datum.rank === picked", "value": 4}, "value": 1.4},
        ),
    ]  # fmt: skip
    return Chart(
        "objectives",
        "every network of the front over all objectives; the table has the same numbers",
        {"height": 320, "params": [{"name": "picked", "value": 0}], "layer": layers},
    )  # fmt: skip


def progress_chart(curves: Mapping[str, Progress]) -> Chart:
    """Hypervolume against evaluations on a logarithmic axis, a step at each that raised it."""
    total = max((known.total for known in curves.values()), default=1)
    best = max((known.final for known in curves.values()), default=1.0) or 1.0
    points = [
        {"x": count, "y": share, "curve": name, "label": f"{name}: {share:.4f} after {count}"}
        for name, known in curves.items()
        for count, share in [
            *([] if known.evaluations[:1] == (1,) else [(1, 0.0)]),
            *zip(known.evaluations, known.shares, strict=True),
            (max(known.total, 1), known.final),
        ]
    ]
    x = {"field": "x", "type": "quantitative", "title": "evaluations",
         "scale": {"type": "log", "domain": [1, max(total, 2)], "nice": False},
         "axis": {"format": "~s", "tickCount": 5}}  # fmt: skip
    y = {"field": "y", "type": "quantitative", "title": "hypervolume, in parts of the box",
         "scale": {"domain": [0, best * 1.04]}}  # fmt: skip
    several = len(curves) > 1
    dash = {"field": "curve", "legend": None, "scale": {"range": _cycle(DASHES, len(curves))}}
    line = _layer(
        points, {"type": "line", "interpolate": "step-after"}, x=x, y=y,
        color=_series("curve", list(curves)) if several else {"value": BLUE}, tooltip={"field": "label"},
        **({"strokeDash": dash} if several else {}),
    )  # fmt: skip
    said = "; ".join(f"{name} {one.final:.4f} after {one.total} evaluations" for name, one in curves.items())
    return Chart("hypervolume", f"hypervolume over evaluations: {said}", {"height": 260, "layer": [line]})


def agreement_chart(networks: Sequence[Agreement], *, budget_ms: float, how: str) -> Chart:
    """Measured against predicted ms, with the line on which both agree.

    `how` says what the predictions are; a second mark is where the corrected table puts a network.
    """
    first, second = f"predicted, {how}", "predicted, corrected table"
    points: list[Spec] = [
        {"x": predicted, "y": one.measured_ms, "kind": kind, "label": f"{one.label}, {kind}"}
        for kind, some in (
            (first, [(one, one.predicted_ms) for one in networks]),
            (second, [(one, one.corrected_ms) for one in networks if one.corrected_ms is not None]),
        )
        for one, predicted in some
    ]
    domain = _domain(
        [*(one.measured_ms for one in networks), *(float(point["x"]) for point in points), budget_ms]
    )
    x, y = _axis("x", f"predicted, {how} (ms)", domain), _axis("y", "measured (ms)", domain)
    ends = [{"x": end, "y": end} for end in domain]
    kinds = list(dict.fromkeys(str(point["kind"]) for point in points))
    budget = [{"y": budget_ms, "words": f"budget {budget_ms:g} ms"}]
    layers = [
        _layer(ends, {"type": "line", "color": SOFT, "strokeWidth": 1}, x=x, y=y),
        _layer(budget, {"type": "rule", "color": VERMILION, "strokeDash": [5, 4]}, y=y),
        _layer(budget, {"type": "text", "align": "left", "baseline": "bottom", "dx": 4, "dy": -2},
               x={"value": 0}, y=y, text={"field": "words"}),
        _layer(
            points, {"type": "point", "filled": True, "size": 60, "opacity": 0.9}, x=x, y=y,
            tooltip={"field": "label"}, color=_series("kind", kinds),
            shape={"field": "kind", "scale": {"domain": kinds, "range": _cycle(SHAPES, len(kinds))}},
        ),
    ]  # fmt: skip
    described = "measured against predicted latency; the same numbers are in the table below"
    return Chart("measured", described, {"height": HEIGHT_PX, "layer": layers})


def choices_chart(rows: Sequence[tuple[str, Mapping[str, float]]]) -> Chart:
    """Shares of the attention types, a bar for each row, which sum up to 1."""
    parts, kinds = [], list(dict.fromkeys(kind for _, shares in rows for kind in shares))
    for label, shares in rows:
        start = 0.0
        for kind, share in shares.items():
            parts.append({"row": label, "kind": kind, "from": start, "to": start + share,
                          "label": f"{label}: {kind} {100 * share:.0f} %"})  # fmt: skip
            start += share
    x = {"field": "from", "type": "quantitative", "title": "share of the blocks",
         "axis": {"format": "%"}, "scale": {"domain": [0, 1]}}  # fmt: skip
    return _bars("choices", "attention of the blocks by stage: the front, and all evaluated networks",
                 parts, kinds, [label for label, _ in rows], x)  # fmt: skip


def ops_chart(times: DeviceTimes, ranks: Sequence[int], *, name: str = "ops") -> Chart:
    """A bar for each network, cut into its ops in the order they run, then the rest."""
    parts, kinds = [], dict[str, None]()
    for rank, bar in zip(ranks, times.bars, strict=True):
        start = 0.0
        for op in bar:
            kinds[op.kind] = None
            parts.append({"row": f"#{rank}", "rank": rank, "kind": op.kind, "from": start,
                          "to": start + op.ms, "label": f"#{rank} {op.place}: {op.ms:.3g} ms"})  # fmt: skip
            start += op.ms
    x = {"field": "from", "type": "quantitative", "title": times.title}
    described = f"{times.title}: a bar for each network, cut into its ops; the table has the same numbers"
    return _bars(name, described, parts, list(kinds), [f"#{rank}" for rank in ranks], x)


def curves_chart(name: str, curves: Mapping[str, Sequence[float]], *, title: str) -> Chart:
    """A line for each curve over the epochs of a training, with a dot at each epoch."""
    points = [
        {"x": epoch, "y": float(f"{value:.6g}"), "curve": curve,
         "label": f"{curve} after epoch {epoch}: {value:.4g}"}
        for curve, values in curves.items()
        for epoch, value in enumerate(values, start=1)
    ]  # fmt: skip
    x = {"field": "x", "type": "quantitative", "title": "epoch", "axis": {"format": "d", "tickMinStep": 1}}
    y = {"field": "y", "type": "quantitative", "title": title, "scale": {"zero": False}}
    colour = _series("curve", list(curves)) if len(curves) > 1 else {"value": BLUE}
    line = _layer(
        points, {"type": "line", "point": {"size": 24}}, x=x, y=y, color=colour, tooltip={"field": "label"}
    )
    return Chart(name, f"{title} over the epochs; the table has the same numbers", {"height": 220, **line})


def confusion_chart(classes: Sequence[str], counts: Sequence[tuple[int, int, int]]) -> Chart:
    """The confusion matrix: `counts` are (label, predicted, images), colours are shares of the label."""
    totals = [sum(count for label, _, count in counts if label == place) for place in range(len(classes))]
    cells = [
        {"row": classes[label], "column": classes[predicted], "count": count, "share": count / totals[label],
         "label": f"{classes[label]} taken for {classes[predicted]}: {count} of {totals[label]}"}
        for label, predicted, count in counts
    ]  # fmt: skip
    axis = {"type": "nominal", "sort": list(classes), "scale": {"domain": list(classes)}}
    x = {"field": "column", "title": "predicted", **axis}
    y = {"field": "row", "title": "class", **axis}
    colour = {"field": "share", "type": "quantitative", "legend": None,
              "scale": {"domain": [0, 1], "range": [GROUND, BLUE]}}  # fmt: skip
    layers = [
        _layer(cells, {"type": "rect", "stroke": LINE}, x=x, y=y, color=colour, tooltip={"field": "label"})
    ]
    if len(classes) <= 15:
        ink = {"condition": {"test": "datum.share > 0.5", "value": GROUND}, "value": INK}
        layers.append(_layer(cells, {"type": "text"}, x=x, y=y, text={"field": "count"}, color=ink))
    described = "confusion matrix of the evaluation images; the tables have the same numbers"
    return Chart("confusion", described, {"height": {"step": 22}, "layer": layers})


def _bars(
    name: str, described: str, parts: list[Spec], kinds: Sequence[str], rows: Sequence[str], x: Spec
) -> Chart:
    colours = {"domain": list(kinds), "range": [KINDS.get(kind, GREY) for kind in kinds]}
    bar = _layer(
        parts, {"type": "bar", "stroke": GROUND, "strokeWidth": 0.5},
        y={"field": "row", "type": "nominal", "sort": list(rows), "title": None,
           "axis": {"domain": False, "ticks": False}},
        x=x, x2={"field": "to"}, tooltip={"field": "label"},
        color={"field": "kind", "type": "nominal", "scale": colours, "legend": {"columns": 4}},
    )  # fmt: skip
    return Chart(name, described, {"height": {"step": 20}, **bar})


def _layer(values: Sequence[Any], mark: Spec, **encoding: Any) -> Spec:
    """A mark over its own data; without a tooltip unless one is encoded."""
    return {"data": {"values": list(values)}, "mark": {"tooltip": None, **mark}, "encoding": encoding}


def _axis(field: str, title: str, domain: Sequence[float]) -> Spec:
    scale = {"domain": list(domain), "zero": False, "nice": False}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale}


def _series(field: str, names: Sequence[str]) -> Spec:
    scale = {"domain": list(names), "range": _cycle(SERIES, len(names))}
    return {"field": field, "type": "nominal", "scale": scale, "legend": {"columns": 3}}


def _cycle(values: Sequence[Any], count: int) -> list[Any]:
    return [values[index % len(values)] for index in range(count)]


def _point(mark: Mark, front: Front, joined: bool) -> Spec:
    return {"x": mark.x, "y": mark.accuracy, "label": mark.label, "rank": mark.rank,
            "front": front.name, "joined": joined}  # fmt: skip


def _domain(values: Iterable[float]) -> tuple[float, float]:
    """From the least to the most, with a margin of 4 % to both sides."""
    known = list(values)
    low, high = min(known), max(known)
    margin = 0.04 * (high - low) or 1.0
    return low - margin, high + margin


def _share(value: float, domain: tuple[float, float]) -> float:
    return (value - domain[0]) / (domain[1] - domain[0])


def _thinned(
    points: Sequence[tuple[float, float]], x: tuple[float, float], y: tuple[float, float]
) -> list[Spec]:
    """One point of each cell of a fine grid: thousands on one spot look the same as one."""
    cells: dict[tuple[int, int], Spec] = {}
    for a, b in points:
        if b >= y[0]:
            cell = (round(_share(a, x) * GRID[0]), round(_share(b, y) * GRID[1]))
            cells.setdefault(cell, {"x": float(f"{a:.5g}"), "y": float(f"{b:.5g}")})
    return list(cells.values())


def _names(
    marks: Sequence[Mark], x_domain: tuple[float, float], y_domain: tuple[float, float], x: Spec, y: Spec
) -> list[Spec]:
    """Names beside marks. One that would lie on another is left to the tooltip, on narrow screens more."""
    wide, narrow = _placed(marks, x_domain, y_domain, WIDE_PX), _placed(marks, x_domain, y_domain, NARROW_PX)
    layers = []
    for side in ("left", "right"):
        data = [
            {"x": mark.x, "y": mark.accuracy, "name": mark.name, "in_wide": wide.get(index) == side,
             "in_narrow": narrow.get(index) == side}
            for index, mark in enumerate(marks)
            if side in (wide.get(index), narrow.get(index))
        ]  # fmt: skip
        if data:
            text = {"type": "text", "align": side, "dx": 9 if side == "left" else -9, "color": INK}
            seen = {
                "condition": {"test": "width < 520 ? datum.in_narrow : datum.in_wide", "value": 1},
                "value": 0,
            }
            layers.append(_layer(data, text, x=x, y=y, text={"field": "name"}, opacity=seen))
    return layers


def _placed(
    marks: Sequence[Mark], x: tuple[float, float], y: tuple[float, float], width_px: int
) -> dict[int, str]:
    """For each mark whose name has room, how the name is aligned to it: `left` is to the right of it."""
    taken: list[tuple[float, float, float]] = []
    placed = {}
    for index, mark in enumerate(marks):
        if not mark.name:
            continue
        at, height = _share(mark.x, x) * width_px, _share(mark.accuracy, y) * HEIGHT_PX
        length = 6.2 * len(mark.name)
        beyond = at + 9 + length > width_px
        start = at - 9 - length if beyond else at + 9
        crowded = any(
            abs(height - other) < 13 and start < end + 4 and begin < start + length + 4
            for begin, end, other in taken
        )
        if start >= 0 and not crowded:
            taken.append((start, start + length, height))
            placed[index] = "right" if beyond else "left"
    return placed
