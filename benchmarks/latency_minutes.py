"""How a table's error falls with the minutes spent measuring: 1, 2, 5 and 10.

    python benchmarks/latency_minutes.py SAMPLES --truth FILE [--minutes 1 2 5 10] [--json FILE]

SAMPLES are those of a finished build (NAME.samples beside NAME.yaml), FILE is what
latency_prediction.py timed for its table. Nothing is timed here: of the build's cells those are taken
that so few minutes would have given - by the plan's own estimate of a cell, ops spread out as it does -, a
table is made of them as a build makes it, and its error is told on networks that no build has seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import latency_output as output
from latency_prediction import table_score
from latency_scores import COLUMNS, Scores, cells
from latency_truth import MACRO, RANDOM, Truth, in_group

from hwnas.errors import UsageError
from hwnas.measure.adaptive import network_pace
from hwnas.measure.build import make_table
from hwnas.measure.cells import timings
from hwnas.measure.plan import Plan, make_plan, spread_out
from hwnas.measure.samples import read_samples
from hwnas.predictors.latency import DeviceProfile, LatencyTable
from hwnas.space import SearchSpace

FEWEST_NETWORKS = 8
ENOUGH_NETWORKS = 30
"""With fewer whole networks, one pass less is the better use of the time."""
NETWORKS_SHARE = 0.5
"""Of the time, at most so much is for whole networks; the ops get the rest."""

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Samples:
    """A finished build's journal."""

    question: Mapping[str, Any]
    records: Sequence[Record]

    @classmethod
    def read(cls, path: Path) -> Samples:
        """Raises FileFormatError when the file is no journal of a build."""
        samples = read_samples(path)
        if samples.of is None:
            raise UsageError(f"{path}: there are no samples of a build")
        return cls(samples.of, samples.rows)

    @property
    def profile(self) -> DeviceProfile:
        names = [field.name for field in dataclasses.fields(DeviceProfile)]
        return DeviceProfile(**{name: self.question[name] for name in names})

    @property
    def networks(self) -> set[str]:
        """Labels of the whole networks that it measured."""
        return {record["cell"] for record in self.records if record["cell"].startswith("random-")}


def timed_s(record: Record) -> float:
    """The seconds that a cell's timed runs took: its own, its first ones and its reference network's.

    Loading the models and warming up are not among them.
    """
    own_ns = record["runs_per_repeat"] * sum(record["samples_ns"])
    return (own_ns + sum(record["cold_ns"]) + 2 * sum(record["reference_ns"])) / 1e9


def full_plan(samples: Samples, *, space: SearchSpace) -> Plan:
    """The plan of the build that left the samples; its ops are those that were measured.

    Raises UsageError when its networks are not those that its seed draws.
    """
    measured = {record["cell"] for record in samples.records}
    question = samples.question
    plan = make_plan(space, networks=len(samples.networks), passes=question["passes"], seed=question["seed"])
    if {label for label, _ in plan.networks} != samples.networks:
        raise UsageError(
            f"the samples must hold the networks that seed {question['seed']} draws, and hold others: "
            "build the table anew with this hwnas, in the default space"
        )
    return dataclasses.replace(
        plan,
        ops=tuple(op for op in plan.ops if op.key in measured),
        filled=tuple(op for op in (*plan.ops, *plan.filled) if op.key not in measured),
    )


def plan_within(minutes: float, full: Plan, required: int) -> Plan:
    """What of a build fits so many minutes; the first `required` of its ops always belong to it.

    As many networks as half of the time holds, as many passes as leave 30 networks, ops spread out for
    what is left. Raises UsageError when not even one pass with a few networks fits.
    """
    for passes in range(full.passes, 0, -1):
        bare = dataclasses.replace(full, ops=full.ops[:required], drawn=(), spread=(), passes=passes)
        network_s = dataclasses.replace(bare, drawn=full.drawn[:1]).seconds - bare.seconds
        room_s = min(NETWORKS_SHARE * 60 * minutes, 60 * minutes - bare.seconds)
        count = min(int(room_s / network_s), len(full.networks))
        if count >= min(ENOUGH_NETWORKS if passes > 1 else FEWEST_NETWORKS, len(full.networks)):
            spread = min(count // 3, len(full.spread))
            with_networks = dataclasses.replace(
                bare, drawn=full.drawn[: count - spread], spread=full.spread[:spread]
            )
            return _with_ops(with_networks, full, required, 60 * minutes)
    raise UsageError(f"{minutes:g} minutes are too short for a pass of the presets' ops and a few networks")


def _with_ops(plan: Plan, full: Plan, required: int, limit_s: float) -> Plan:
    """The plan with as many more of the full one's ops as fit the time, spread out; the rest filled."""
    rest = full.ops[required:]
    room = len(rest)
    if rest:
        op_s = (dataclasses.replace(plan, ops=full.ops).seconds - plan.seconds) / len(rest)
        room = min(room, int((limit_s - plan.seconds) / op_s))
    chosen = {op.key for op in spread_out(rest, room, near=full.ops[:required])}
    return dataclasses.replace(
        plan,
        ops=(*full.ops[:required], *(op for op in rest if op.key in chosen)),
        filled=(*full.filled, *(op for op in rest if op.key not in chosen)),
    )


def cells_within(plan: Plan, records: Sequence[Record]) -> list[Record]:
    """The records that a build of the plan would have left."""
    names = {op.key for op in plan.ops} | {label for label, _ in plan.networks}
    return [record for record in records if record["cell"] in names and record["pass"] < plan.passes]


def table_within(plan: Plan, records: Sequence[Record], profile: DeviceProfile) -> LatencyTable:
    """The table that the build would have made of its cells."""
    return make_table(
        plan,
        timings(records, {label for label, _ in plan.networks}.__contains__),
        name="within-minutes",
        profile=profile,
        environment={},
        created="",
        pace=network_pace(records, {label for label, _ in plan.networks}.__contains__),
    )


def main() -> None:
    parser = output.parser(__doc__)
    parser.add_argument("samples", type=Path, metavar="SAMPLES")
    parser.add_argument("--truth", type=Path, required=True, metavar="FILE")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 2.0, 5.0, 10.0])
    options = parser.parse_args()
    space = SearchSpace.default()
    samples, truth = Samples.read(options.samples), Truth.load(options.truth)
    samples.profile.check(table=options.samples.name, **{**truth.profile.settings(), "board": None})
    watched = {network.label for network in truth.networks}  # of latency_one_run.py: in the same samples
    own = [record for record in samples.records if record["cell"] not in watched]
    samples = dataclasses.replace(samples, records=own)
    full = full_plan(samples, space=space)
    presets_only = make_plan(space, networks=4, measure_all=False)
    required = len({op.key for op in presets_only.ops} & {op.key for op in full.ops})
    networks = in_group(truth, (RANDOM, MACRO))
    rows: list[dict[str, Any]] = []
    for minutes in [*options.minutes, None]:
        plan = full if minutes is None else plan_within(minutes, full, required)
        records = cells_within(plan, samples.records)
        table = table_within(plan, records, samples.profile)
        rows.append(
            {
                "minutes": minutes,
                "planned_minutes": plan.seconds / 60,
                "timed_minutes": sum(map(timed_s, records)) / 60,
                "cells": len(records),
                "passes": plan.passes,
                "building_networks": len(plan.networks),
                "rows_measured": len(table.rows) - len(table.filled),
                "rows_filled": len(table.filled),
                "told_mape_percent": table.heldout.mape_percent,
                "scores": table_score(table, networks, truth.measured(None, pace=table.pace)).to_dict(),
            }
        )
    known = ("planned_minutes", "timed_minutes", "passes", "building_networks", "rows_measured")
    titles = ("minutes", "planned", "timed runs alone", "passes", "whole networks", "rows measured")
    grid = output.grid(
        f"{options.samples.name}: error on unseen networks after so many minutes of measuring",
        (*titles, "filled", "error it tells %", *COLUMNS),
        [
            [
                "all" if row["minutes"] is None else f"{row['minutes']:g}",
                *(row[name] for name in known),
                row["rows_filled"],
                row["told_mape_percent"],
                *cells(Scores(**row["scores"])),
            ]
            for row in rows
        ],
    )
    document = {"samples": options.samples.name, "table": truth.table, "rows": rows}
    output.answer(document, [grid], options.json)


if __name__ == "__main__":
    output.run(main)
