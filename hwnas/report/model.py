"""Everything that the report of a run says, computed once: the page and the files only lay it out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from hwnas.errors import HwnasError
from hwnas.report.charts import (
    Agreement,
    Chart,
    DeviceTimes,
    Objective,
    OpTime,
    agreement_chart,
    choices_chart,
    front_chart,
    ops_chart,
    parallel_chart,
    progress_chart,
)
from hwnas.report.choices import Preference, Share, preferences, strongest
from hwnas.report.dimensions import (
    Dimension,
    accuracy_noun,
    dimensions,
    interval,
    number,
    percent,
    provenances,
    shown,
    spread_over,
    with_deviation,
    within,
)
from hwnas.report.drawing import Bar, drawn
from hwnas.report.fronts import FrontView, front_view
from hwnas.report.progress import Progress, box_of, box_text, limits_of, points_of, progress
from hwnas.report.published import (
    Lead,
    PublishedNetwork,
    is_on_published_scale,
    lead_over,
    published_networks,
)
from hwnas.search.config import Configuration, SearchConfig, TableVersion
from hwnas.search.output import verification_text
from hwnas.search.run import SearchResult, resume_command
from hwnas.space.ops import lower
from hwnas.space.outline import outline

if TYPE_CHECKING:
    from hwnas.predictors.latency import DeviceProfile, LatencyTable
    from hwnas.search.trial import Candidate

    Rate = tuple[Dimension, DeviceProfile]

__all__ = ["MOST_BARS", "ReportModel", "front_remarks", "provenance_facts", "report_model", "tables_of"]

MOST_BARS = 60
"""Networks times devices whose ops are listed: a front of several objectives may have hundreds."""
CHART_BARS = 24
"""Networks in the page's chart of ops; all that are listed have a table of their own."""
FILE_BARS = 8
"""Networks whose ops a file shows: bars that can still be read in a column of a paper."""
SIZES = ("params", "macs")
"""Dimensions that have a column of their own in every run."""


@dataclass(frozen=True, slots=True)
class Table:
    """Headings and rows of text; `left` are the columns that are not numbers."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True)
class NetworkRow:
    """A network of the front in the table of networks."""

    rank: int
    outline: str
    drawing: tuple[Bar, ...]
    id: str
    name: str
    """As the next command takes it, quoted for a shell: `'runs/rpi4-20ms-1#3'`."""
    cells: tuple[str, ...]
    more: tuple[str, ...]
    """The cells after the outline and the id."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How the hypervolume grew."""

    known: Progress
    sentence: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """What measuring the front said."""

    sentences: tuple[str, ...]
    command: str
    """What to run next; empty where there is nothing to do."""
    where: str
    networks: tuple[Agreement, ...]
    table: Table
    budget_ms: float


@dataclass(frozen=True, slots=True)
class ChoiceGroup:
    """The shares of one kind of decision, stage by stage."""

    what: str
    rows: tuple[tuple[str, Share], ...]


@dataclass(frozen=True)
class ReportModel:
    """One run, in words, numbers and tables, as its report shows it."""

    within: str
    subtitle: str
    conclusion: tuple[str, ...]
    unfinished: tuple[str, str] | None
    """How far the search is, and the command that goes on; None when it is complete."""
    facts: Mapping[str, str]
    fronts: tuple[FrontView, ...]
    front_notes: str
    objectives: tuple[Objective, ...]
    """Empty where there is one objective beside the accuracy."""
    labels: tuple[str, ...]
    """The networks' tooltips in the chart of all objectives."""
    published: Table | None
    published_heading: str
    networks: tuple[NetworkRow, ...]
    headings: tuple[str, ...]
    more_headings: tuple[str, ...]
    networks_note: str
    commands: tuple[tuple[str, str], ...]
    """What to run next: what stands before and after the network's name."""
    measured: Measured | None
    prediction: str
    """What predicted latencies are, as `estimated table`."""
    growth: Growth | None
    choices_sentence: str
    attention: tuple[tuple[str, Mapping[str, float]], ...]
    choice_groups: tuple[ChoiceGroup, ...]
    times: tuple[DeviceTimes, ...]
    times_title: str
    times_ranks: tuple[int, ...]
    """Which networks of the front have their ops listed."""
    times_notes: tuple[str, ...]
    times_missing: str
    """What to say where a device's table is not at hand; empty otherwise."""
    provenance: Mapping[str, str]
    table_notes: Mapping[str, tuple[str, ...]]
    """What to know about the tables, by device."""

    @cached_property
    def charts(self) -> Mapping[str, Chart]:
        """Every chart of the page by name, in its order."""
        made = []
        if self.objectives and self.labels:
            made.append(parallel_chart(self.objectives, self.labels))
        made += [front_chart(one, name=self.front_name(one)) for one in self.fronts]
        if self.measured is not None and self.measured.networks:
            made.append(
                agreement_chart(
                    self.measured.networks, budget_ms=self.measured.budget_ms, how=self.prediction
                )
            )
        if self.growth is not None:
            made.append(progress_chart({"hypervolume": self.growth.known}))
        if self.attention:
            made.append(choices_chart(self.attention))
        made += self._ops_charts(CHART_BARS)
        return {chart.name: chart for chart in made}

    def charts_for_files(self) -> list[Chart]:
        """The charts of a paper: the same, with the ops of a few networks only."""
        short = {chart.name: chart for chart in self._ops_charts(FILE_BARS)}
        return [short.get(name, chart) for name, chart in self.charts.items()]

    def _ops_charts(self, most: int) -> list[Chart]:
        """The ops of up to `most` networks, a chart for each device."""
        few = spread_over(len(self.times_ranks), most)
        ranks = [self.times_ranks[index] for index in few]
        return [
            ops_chart(
                replace(one, bars=tuple(one.bars[index] for index in few)), ranks, name=self.ops_name(one)
            )
            for one in self.times
        ]

    def front_name(self, view: FrontView) -> str:
        """The name of a front's chart: `front`, or `front-params` among several."""
        return "front" if len(self.fronts) == 1 else f"front-{_slug(view.name)}"

    def ops_name(self, times: DeviceTimes) -> str:
        """The name of the chart of a device's ops."""
        return "ops" if not times.column.count(" on ") else f"ops-{_slug(times.device)}"

    @property
    def sections(self) -> tuple[tuple[str, str], ...]:
        """Id and title of each section that has something to say."""
        there = {
            "front": ("The front", True),
            "networks": ("Networks", True),
            "measured": ("Measured", self.measured is not None),
            "progress": ("How it got there", self.growth is not None),
            "choices": ("Choices", bool(self.choice_groups or self.attention)),
            "time": ("Where the time goes", True),
            "provenance": ("Provenance", True),
        }
        return tuple((name, title) for name, (title, shown_) in there.items() if shown_)


def tables_of(result: SearchResult) -> dict[str, LatencyTable]:
    """The run's latency tables by device, as far as their content is what the run recorded."""
    from hwnas.predictors.latency import LatencyTable

    found = {}
    for device, digest in result.config.digests.items():
        try:
            table = LatencyTable.load(device)
        except HwnasError:
            continue
        if table.digest == digest:
            found[device] = table
    return found


def report_model(result: SearchResult, *, tables: Mapping[str, LatencyTable]) -> ReportModel:
    """What the report says, with the tables of the run's devices that are at hand, by device.

    Without them there are no published networks and no latencies per op, and it says so.
    """
    config = result.config
    found = dimensions(config)
    minimised = [one for one in found if one.minimised]
    several = len(minimised) > 1
    published = published_networks(result, tables)
    known = preferences(result) if result.front else ()
    attention = [one for one in known if one.what == "attention"]
    times, ranks = _times(result, tables, found)
    how = f", {provenances(_timed(found, tables, config))}" if times else ""
    columns = _columns(result, found)
    rates = _rates(found, tables)
    run = "RUN" if result.path is None else str(result.path)
    device = config.devices[0]
    if config.configurations and result.front:
        device = result.front[0].configuration
    device = shlex.quote(device)
    return ReportModel(
        within=within(config),
        subtitle=f"Space {config.space.get('name', '')}, sampler {config.sampler}, seed {config.seed}, "
        f"{result.started}",
        conclusion=_conclusion(result, found, lead_over(result, published)),
        unfinished=None
        if result.is_complete
        else (
            result.remaining,
            "" if result.path is None else resume_command(result.path, result.config.accuracy),
        ),
        facts=_facts(result, found),
        fronts=tuple(front_view(result, one, published) for one in minimised),
        front_notes=_front_notes(result, found),
        objectives=_objectives(result, minimised) if several and result.front else (),
        labels=_labels(result, minimised) if several else (),
        published=_published_table(result, published, found, rates),
        published_heading="Published networks beside the front",
        networks=tuple(
            _network(rank, candidate, columns, rates, run, verified=result.is_verified)
            for rank, candidate in enumerate(result.front, start=1)
        ),
        headings=(
            *(("configuration",) if config.configurations else ()),
            *(("measured ms", "measured interval ms") if result.is_verified else ()),
            *(one.column for one in columns),
            f"accuracy {config.accuracy_unit}, estimated",
        ),
        more_headings=(
            *(replace(one, noun=f"{one.noun} interval").column for one in columns if one.device),
            *(f"images/s{one.place}, {one.provenance}" for one, _ in rates),
            "params M",
            "MACs M",
        ),
        networks_note="No network here has another one here that is "
        + ("at least as good in every objective." if several else "as fast and as accurate."),
        commands=(
            ("hwnas describe ", f" --device {device}"),
            ("hwnas export ", " --out model.onnx"),
            ("hwnas train ", " --data FOLDER"),
        ),
        measured=_measured(result),
        prediction=f"{config.provenance} table",
        growth=_growth(result),
        choices_sentence=_choices_sentence(known),
        attention=tuple(
            (f"stage {one.stage}, {who}", {each.choice: getattr(each, which) for each in one.shares})
            for one in attention
            for who, which in (("front", "front"), ("all", "evaluated"))
        ),
        choice_groups=tuple(
            ChoiceGroup(
                what, tuple((_place(one), share) for one in known if one.what == what for share in one.shares)
            )
            for what in dict.fromkeys(one.what for one in known if one.what != "attention")
        ),
        times=times,
        times_title=f"Where the time goes{how}",
        times_ranks=ranks,
        times_notes=_times_notes(result, times, ranks),
        times_missing=_missing(result, tables),
        provenance=provenance_facts(result, tables),
        table_notes={name: notes for name, table in tables.items() if (notes := _notes(table))},
    )


def _conclusion(result: SearchResult, found: Sequence[Dimension], lead: Lead | None) -> tuple[str, ...]:
    """What the run says, in a few sentences."""
    config = result.config
    if not result.front:
        return ("No network has been evaluated within the limits yet.",)
    best, last = result.front[0], result.front[-1]
    minimised = [one for one in found if one.minimised]
    first = minimised[0]

    def said(candidate: Candidate) -> str:
        how = "measured now" if result.is_verified and first.name == "latency" else None
        return first.said(shown(result, candidate, first).value, provenance=how)

    unit = config.accuracy_unit
    texts = [
        f"The most accurate network found within {within(config)} is {outline(best.arch)}: "
        f"{with_deviation(best.accuracy)} {unit}".rstrip()
        + f" estimated {accuracy_noun(config)}, {said(best)}."
    ]
    if best.configuration:
        texts.append(f"It runs in {config.configuration(best.configuration)}.")
    if result.is_exact:
        texts.append(
            f"The front is exact: all {result.evaluated} networks of the space that are within the limits "
            "were evaluated."
        )
    if lead is not None:
        how = "published" if is_on_published_scale(result) else "estimated"
        texts.append(f"Its lead: {lead.sentence(unit=unit, how=how)}.")
    if len(result.front) > 1:
        texts.append(
            f"The front has {len(result.front)} networks, down to {said(last)} at "
            f"{with_deviation(last.accuracy)} {unit}".rstrip()
            + "."
        )
    texts += front_remarks(result)
    if not result.is_verified and result.path is not None:
        texts.append(
            f"Latencies here are {provenances(found)} and no network of this run was measured. To measure: "
            f"{resume_command(result.path, result.config.accuracy)} --verify"
        )
    return tuple(texts)


def front_remarks(result: SearchResult) -> list[str]:
    """Which attention the front has, and whether the search space ends before the budget."""
    kinds = dict.fromkeys(kind for one in result.front for kind in one.attentions)
    texts = [
        f"Attention on the front: {', '.join(kinds)}."
        if kinds
        else "No network of the front has attention: within these limits convolutions gave more."
    ]
    first = dimensions(result.config)[0]
    slowest = max(trial.number(first.name) / first.per_unit for trial in result.trials)
    if first.limit is not None and slowest < 0.6 * first.limit:
        texts.append(
            f"The largest network evaluated takes {number(slowest)} of {first.limit:g} {first.unit}: the "
            "search space ends before the budget."
        )
    return texts


def _facts(result: SearchResult, found: Sequence[Dimension]) -> dict[str, str]:
    config, front = result.config, result.front
    facts = {
        "networks evaluated, all within the limits": str(result.evaluated + result.given),
        "networks on the front": str(len(front)),
        "latencies are": provenances(found),
        "accuracies are": f"estimated ({config.accuracy})",
    }
    if front:
        best = front[0]
        facts["best accuracy, estimated"] = f"{with_deviation(best.accuracy)} {config.accuracy_unit}".strip()
        for one in found:
            value = f"{number(one.of(best).value)} {one.unit}"
            if best.measured is not None and result.is_verified and one.name == "latency":
                facts["its latency, measured now"] = f"{number(shown(result, best, one).value)} {one.unit}"
                facts[f"its latency, predicted ({one.provenance} table)"] = value
            else:
                how = f", {one.provenance}" if one.provenance else ""
                facts[f"its {one.noun}{one.place}{how}"] = value
    return facts


def _front_notes(result: SearchResult, found: Sequence[Dimension]) -> str:
    config = result.config
    words = (
        "their published ImageNet-1K top-1 accuracy"
        if is_on_published_scale(result)
        else "the accuracy estimated in this run; those that it did not evaluate are left out"
    )
    how = provenances(found)
    here = "these devices" if len(config.devices) > 1 else "this device"
    line = (
        "The line joins those that no other beats in the chart's two objectives; fainter ones are on the "
        "front for another objective. "
        if len(config.minimised) > 1
        else ""
    )
    faint = f"by the {how} table" if result.is_verified else how
    return (
        "Dots on the line: the front, with one standard deviation of the accuracy; the band is the interval "
        f"of the latency. {line}Faint: all evaluated networks, {faint} (the worst twentieth may lie below "
        f"the chart). Diamonds: published networks, at their latency {how} on {here} and {words}."
    )


def _objectives(result: SearchResult, minimised: Sequence[Dimension]) -> tuple[Objective, ...]:
    accuracies = tuple(candidate.accuracy.value for candidate in result.front)
    unit = result.config.accuracy_unit
    words = ("accuracy", "", f"{unit}, estimated".lstrip(", "))
    scales = [Objective(words, accuracies, best=max(accuracies), worst=min(accuracies))]
    for one in minimised:
        values = tuple(shown(result, candidate, one).value for candidate in result.front)
        words = (
            one.noun,
            one.device if one.among_devices else "",
            ", ".join(filter(None, (one.unit, one.provenance))),
        )
        scales.append(Objective(words, values, best=min(values), worst=max(values)))
    return tuple(scales)


def _labels(result: SearchResult, minimised: Sequence[Dimension]) -> tuple[str, ...]:
    return tuple(
        f"#{rank} {outline(candidate.arch)}: "
        + ", ".join(one.said(shown(result, candidate, one).value) for one in minimised)
        + f", accuracy {with_deviation(candidate.accuracy)} estimated"
        for rank, candidate in enumerate(result.front, start=1)
    )


def _published_table(
    result: SearchResult,
    published: Sequence[PublishedNetwork],
    found: Sequence[Dimension],
    rates: Sequence[Rate],
) -> Table | None:
    """Every published network, and the front's fastest that is at least as good as it in everything."""
    if not published:
        return None
    how = "published" if is_on_published_scale(result) else "estimated"
    shared = [one for one in found if one.name not in SIZES]
    headings = ["network"]
    for one in shared:
        headings.append(one.column)
        if one.device:
            headings.append(replace(one, noun=f"{one.noun} interval").column)
    headings += [f"images/s{one.place}, {one.provenance}" for one, _ in rates]
    better = "as good in all objectives" if len(result.config.minimised) > 1 else "as fast and as accurate"
    rows = []
    for network in published:
        cells = [network.name]
        for one in shared:
            value = one.of(network)
            cells.append(number(value.value))
            if one.device:
                cells.append(interval(value))
        cells += [f"{profile.images_per_s(one.of(network).value):,.0f}" for one, profile in rates]
        cells += [
            "" if network.accuracy is None else number(network.accuracy),
            _better(result, network, found),
            f"{network.params / 1e6:.2f}",
            f"{network.macs / 1e6:.0f}",
        ]
        rows.append(tuple(cells))
    accuracy = f"accuracy {result.config.accuracy_unit}, {how}"
    return Table((*headings, accuracy, better, "params M", "MACs M"), tuple(rows))


def _better(result: SearchResult, published: PublishedNetwork, found: Sequence[Dimension]) -> str:
    """The rank of the front's fastest network that is predicted no worse in any objective."""
    if published.accuracy is None:
        return ""
    minimised = [one for one in found if one.minimised]
    ranks = [
        rank
        for rank, one in enumerate(result.front, start=1)
        if one.accuracy.value >= published.accuracy
        and all(each.of(one).value <= each.of(published).value for each in minimised)
    ]
    return f"#{ranks[-1]}" if ranks else ""


def _columns(result: SearchResult, found: Sequence[Dimension]) -> list[Dimension]:
    """The dimensions that have a column in the table of networks."""
    return [
        replace(one, noun="predicted", provenance=f"{one.provenance} table")
        if result.is_verified and one.device
        else one
        for one in found
        if one.name not in SIZES
    ]


def _rates(found: Sequence[Dimension], tables: Mapping[str, LatencyTable]) -> list[Rate]:
    """The latencies on devices that run batches, which a reader takes as images per second."""
    return [
        (one, tables[one.device].profile)
        for one in found
        if one.device in tables and one.noun == "latency" and tables[one.device].profile.batch > 1
    ]


def _network(
    rank: int,
    candidate: Candidate,
    columns: Sequence[Dimension],
    rates: Sequence[Rate],
    run: str,
    *,
    verified: bool,
) -> NetworkRow:
    measured = candidate.measured
    cells: list[str] = [candidate.configuration] if candidate.configuration else []
    if verified:
        cells += ["", ""] if measured is None else [number(measured.value), interval(measured)]
    cells += [number(one.of(candidate).value) for one in columns]
    return NetworkRow(
        rank=rank,
        outline=outline(candidate.arch),
        drawing=drawn(candidate.arch),
        id=candidate.id,
        name=shlex.quote(f"{run}#{rank}"),
        cells=(*cells, with_deviation(candidate.accuracy)),
        more=(
            *(interval(one.of(candidate)) for one in columns if one.device),
            *(f"{profile.images_per_s(one.of(candidate).value):,.0f}" for one, profile in rates),
            f"{candidate.params / 1e6:.2f}",
            f"{candidate.macs / 1e6:.0f}",
        ),
    )


def _measured(result: SearchResult) -> Measured | None:
    """What measuring the front said: every network measured, beside both predictions."""
    known = result.verification
    if known is None:
        return None
    again = "" if result.path is None else f"{resume_command(result.path, result.config.accuracy)} --verify"
    if not known.is_complete:
        sentences = [f"Not finished: {len(known.measured)} networks are measured."]
    elif not result.is_verified:
        sentences = [f"Of the first {known.candidates} candidates only; the front above is not verified."]
    else:
        sentences, again = [verification_text(result)], ""
    if known.mismatch:
        sentences.append("It was allowed to measure in another configuration, or elsewhere, than the table.")
    from hwnas.search.verify import CALM  # brings what measures

    disturbed = [one.cpu_share for one in known.measured if one.cpu_share < CALM]
    if disturbed:
        sentences.append(
            f"Other programs took the CPU while {len(disturbed)} of {len(known.measured)} networks were "
            f"measured, which got {percent(min(disturbed))} of it at worst: those times are too long."
        )
    latencies, front = known.latencies, set(known.front)
    budget_ms = result.config.targets[0].budget_ms
    corrected = {name: one.value for name, one in known.corrected.items()}
    rows = tuple(
        (
            one.id,
            _round(one.round, len(known.stages)),
            number(latencies[one.id].value),
            interval(latencies[one.id]),
            number(one.predicted.value),
            f"{100 * (one.predicted.value / latencies[one.id].value - 1):+.1f} %",
            number(corrected[one.id]) if one.id in corrected else "",
            percent(one.cpu_share),
            "yes" if latencies[one.id].value <= budget_ms else "no",
            "yes" if one.id in front else "",
        )
        for one in known.measured
    )
    where = ", ".join(
        f"{name.replace('_', ' ')} {known.profile.get(name)}"
        for name in ("board", "runtime", "runtime_version", "provider", "threads", "batch", "precision")
        if known.profile.get(name) is not None
    )
    until = f" to {known.finished}" if known.finished else ""
    return Measured(
        tuple(sentences),
        again,
        f"{where}; {known.started}{until}. Each time is the median of fresh processes.",
        tuple(
            Agreement(
                latencies[one.id].value,
                one.predicted.value,
                corrected.get(one.id),
                f"{one.id}: measured {number(latencies[one.id].value)} ms",
            )
            for one in known.measured
        ),
        Table(
            ("id", "round", "measured ms", "interval ms", "predicted ms", "error", "corrected ms",
             "share of the CPU", "within the budget", "on the front"),
            rows,
            left=(0, 8, 9),
        ),
        budget_ms,
    )  # fmt: skip


def _round(number: int, stages: int) -> str:
    """The round that measured a network; those of the stages of a search come first."""
    return f"search, stage {number}" if number <= stages else str(number - stages)


def _growth(result: SearchResult) -> Growth | None:
    """The curve of the hypervolume, and the reference point it is measured against."""
    points = points_of(result)
    box = box_of([points], limits=limits_of(result.config))
    if box is None:
        return None
    known = progress(points, box)
    near = known.first_with(0.99 * known.final)
    minimised = [one.noun + one.place for one in dimensions(result.config) if one.minimised]
    what, notes = "evaluations", list[str]()
    if result.epochs:
        what = "recorded networks"
        notes.append(
            f"Recorded are {known.total} of all {result.evaluated} networks within the limits: the front, "
            "the next best and some spread over the latencies."
            if result.is_exact
            else f"Recorded are the {known.total} networks that survived an epoch, of {result.evaluated} "
            f"evaluated in {len(result.epochs) - 1} epochs."
        )
    counted = ", counted by points spread evenly over it" if len(minimised) > 1 else ""
    notes.append(
        f"Hypervolume of {', '.join(minimised)} and accuracy (less one standard deviation), in parts of "
        f"{box_text(box, result.config)}{counted}: in the end {known.final:.4f}."
    )
    reached = f"99 % of the final hypervolume was there after {near} of {known.total} {what}."
    return Growth(known, reached, tuple(notes))


def _choices_sentence(known: Sequence[Preference]) -> str:
    said = "; ".join(
        f"{_place(preference)} {share.choice} ({percent(share.front)} of the front, "
        f"{percent(share.evaluated)} of all evaluated)"
        for preference, share in strongest(known)
    )
    return f"More often on the front than among all evaluated networks: {said}." if said else ""


def _place(preference: Preference) -> str:
    return preference.what if preference.stage is None else f"stage {preference.stage} {preference.what}"


def _timed(
    found: Sequence[Dimension], tables: Mapping[str, LatencyTable], config: SearchConfig
) -> list[Dimension]:
    """One dimension for each device whose tables are at hand."""
    several = bool(config.configurations) and config.digests.keys() <= tables.keys()
    there = [one for one in found if one.device in tables or (one.device and several)]
    return list({one.device: one for one in there}.values())


def _times(
    result: SearchResult, tables: Mapping[str, LatencyTable], found: Sequence[Dimension]
) -> tuple[tuple[DeviceTimes, ...], tuple[int, ...]]:
    """What the ops of some networks take on each device, and which networks: their ranks."""
    devices = _timed(found, tables, result.config)
    if not devices or not result.front:
        return (), ()
    chosen = spread_over(len(result.front), max(2, MOST_BARS // len(devices)))
    lowered = [(lower(one.arch), one.configuration) for one in (result.front[index] for index in chosen)]
    times = []
    for one in devices:
        bars = []
        for ops, configuration in lowered:
            shares_ms, rest_ms = tables[configuration or one.device].shares_ms(ops)
            bar = [OpTime(op.place, op.key, op.kind, ms) for op, ms in zip(ops, shares_ms, strict=True)]
            if rest_ms > 0:
                bar.append(OpTime("besides the ops", "", "besides the ops", rest_ms))
            bars.append(tuple(bar))
        latency = replace(one, noun="latency")
        column = f"ms{one.place}, {one.provenance}"
        times.append(DeviceTimes(one.device, latency.title, column, tuple(bars)))
    return tuple(times), tuple(index + 1 for index in chosen)


def _times_notes(result: SearchResult, times: Sequence[DeviceTimes], ranks: Sequence[int]) -> tuple[str, ...]:
    if not times:
        return ()
    besides = max((bar[-1].ms for one in times for bar in one.bars if not bar[-1].key), default=0.0)
    offset = f" and up to {besides:.3g} ms besides them" if besides else ""
    some = f" Shown: {len(ranks)} of {len(result.front)}." if len(ranks) < len(result.front) else ""
    return (
        "Each bar is a network, cut into its ops in the order they run; a latency is their "
        f"sum{offset}. Below, the ops of each network.{some}",
    )


def _missing(result: SearchResult, tables: Mapping[str, LatencyTable]) -> str:
    absent = [device for device in result.config.digests if device not in tables]
    if not absent:
        return ""
    return (
        f"The latency table this run used for {', '.join(absent)} is not at hand, or has changed since: no "
        "latencies per op. 'hwnas devices' lists the tables that are."
    )


def provenance_facts(result: SearchResult, tables: Mapping[str, LatencyTable]) -> dict[str, str]:
    """Everything that the numbers of the report depend on."""
    config = result.config
    used: Sequence[Configuration | TableVersion] = config.configurations or config.tables
    facts = {
        f"latency table of {device}": f"{table.provenance}, digest {table.digest}"
        for device, table in zip(config.digests, used, strict=True)
    }
    for one in config.configurations:
        if one.penalty:
            unit = config.accuracy_unit
            facts[f"accuracy of {one.device}"] = f"lowered by {one.penalty:g} {unit}: {one.penalty_source}"
    for device, table in tables.items():
        facts[f"profile of {device}"] = table.profile.sentence()
    for target in config.targets:
        if target.device in tables and (profile := tables[target.device].profile).batch > 1:
            facts[f"budget on {target.device} as throughput"] = (
                f"{profile.images_per_s(target.budget_ms):,.0f} images/s in runs of {profile.batch} images"
            )
    minimised = [one.noun + one.place for one in dimensions(config) if one.minimised]
    facts |= {
        "within": within(config)
        + ("" if config.confidence is None else f" with probability {config.confidence:g}"),
        "minimised": ", ".join(minimised),
        "accuracy estimator": config.accuracy,
        "search space": f"{config.space.get('name', '')} (in full in run.yaml)",
        "sampler, engine, seed": f"{config.sampler}, {config.engine}, {config.seed}",
        "candidates": result.remaining,
        "versions": ", ".join(f"{name} {version}" for name, version in result.versions.items()),
        "started": result.started,
    }
    if result.path is not None:
        facts["resume"] = resume_command(result.path, result.config.accuracy)
    return facts


def _notes(table: LatencyTable) -> tuple[str, ...]:
    """What to know about a table: its caveats and notes, and what of its profile is inferred from what."""
    inferred = table.profile.inferred.items()
    return (
        *table.caveats,
        *table.notes,
        *(f"{name} is not stated by the source, inferred: {reason}" for name, reason in inferred),
    )


def _slug(name: str) -> str:
    """A name as part of a file's name: `latency rpi4` -> `latency-rpi4`."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")
