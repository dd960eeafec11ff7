"""Whole networks that a table has never seen: predicted, and measured here.

    python benchmarks/latency_prediction.py TABLE... [--json FILE]
    python benchmarks/latency_prediction.py TABLE --from FILE

For each table measured on this machine: 100 random networks of the default space that its build cannot
have used, and all presets, timed on two occasions in the table's configuration. Printed are the table's
error on the first occasion, that of simpler predictors fitted on the table's own building networks, and
the noise floor: the second occasion as if it were a prediction of the first.

What was timed is in FOLDER/TABLE.truth.json after each piece: the same command goes on where it was
interrupted, and --from analyses such a file without timing anything. Run it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import latency_output as output
from latency_baselines import baselines_ms
from latency_scores import COLUMNS, Scores, cells, score
from latency_truth import (
    MACRO,
    OTHER,
    RANDOM,
    Measured,
    Network,
    Truth,
    build_draws,
    building_networks,
    in_group,
    measure_truth,
    profile_here,
    unseen_networks,
)
from rich.table import Table

from hwnas.errors import UsageError
from hwnas.predictors.latency import LatencyTable
from hwnas.predictors.latency.pace import Pace
from hwnas.space import SearchSpace


def analysis(
    table: LatencyTable, truth: Truth, *, space: SearchSpace, pace: Pace | None = None
) -> dict[str, Any]:
    """Every figure of one table, from what was timed.

    With `pace` at that speed of the machine, else at the middle one of each occasion.

    Raises UsageError when the truth is of another configuration, or holds a network the build may have
    measured, or when no network was timed on both occasions.
    """
    table.profile.check(
        table=table.name,
        runtime=truth.profile.runtime,
        runtime_version=truth.profile.runtime_version,
        provider=truth.profile.provider,
        threads=truth.profile.threads,
        batch=truth.profile.batch,
        precision=truth.profile.precision,
    )
    drawn = build_draws(table, space)
    seen = {arch.id for arch in drawn.values()}
    seen &= {network.arch.id for network in truth.networks if network.group == RANDOM}
    if seen:
        raise UsageError(
            f"the networks must be new to the table '{table.name}', but its build may have measured "
            f"{len(seen)} of them. Measure others: --seed with another number"
        )
    networks, others = in_group(truth, (RANDOM, MACRO)), in_group(truth, (OTHER,))
    if not networks:
        raise UsageError("no network was timed on both occasions yet: run it again without --from")
    first, second = truth.measured(0, pace=pace), truth.measured(1, pace=pace)
    labels = [network.label for network in networks]
    measured = [first[label].ms for label in labels]
    rows = {f"table {table.name}": table_score(table, networks, first)}
    building = building_networks(table, drawn)
    if building:
        simpler = baselines_ms(table, building, [network.arch for network in networks])
        rows |= {name: score(labels, measured, ms) for name, ms in simpler.items()}
    rows["noise floor: timed again"] = score(labels, measured, [second[label].ms for label in labels])
    more = {
        "against the second occasion": table_score(table, networks, second),
        "against both occasions": table_score(table, networks, truth.measured(None, pace=pace)),
        "against the clock alone": table_score(table, networks, first, clock=True),
        "noise floor of the clock alone": score(
            labels,
            [first[label].clock_ms for label in labels],
            [second[label].clock_ms for label in labels],
        ),
    }
    if table.pace is not None and pace is None:
        more["at the machine's speed when the table was built"] = table_score(
            table, networks, truth.measured(0, pace=table.pace)
        )
    for title, group in (("random networks only", RANDOM), ("presets of the macro design only", MACRO)):
        part = in_group(truth, (group,))
        if part:
            more[title] = table_score(table, part, first)
    if others:
        more["presets beyond the macro design"] = table_score(table, others, first)
    return {
        "table": table.name,
        "digest": table.digest,
        "board": truth.profile.board,
        "runtime": f"{truth.profile.runtime} {truth.profile.runtime_version}",
        "threads": truth.profile.threads,
        "batch": truth.profile.batch,
        "precision": truth.profile.precision,
        "rounds": truth.rounds,
        "pieces_missing": len(truth.missing()),
        "building_networks_of_baselines": len(building),
        "scores": {name: item.to_dict() for name, item in rows.items()},
        "more": {name: item.to_dict() for name, item in more.items()},
        "networks": [
            {
                "label": network.label,
                "group": network.group,
                "measured_ms": first[network.label].ms,
                "again_ms": second[network.label].ms,
                "clock_ms": first[network.label].clock_ms,
                "predicted_ms": table.predict(network.arch).value,
            }
            for network in [*networks, *others]
        ],
    }


def table_score(
    table: LatencyTable,
    networks: Sequence[Network],
    measured: dict[str, Measured],
    *,
    clock: bool = False,
) -> Scores:
    """The table's figures; against the clock alone where asked."""
    estimates = [table.predict(network.arch, level=0.9) for network in networks]
    own = [measured[network.label] for network in networks]
    return score(
        [network.label for network in networks],
        [item.clock_ms if clock else item.ms for item in own],
        [estimate.value for estimate in estimates],
        [(estimate.low or 0.0, estimate.high or 0.0) for estimate in estimates],
    )


def shown(document: dict[str, Any]) -> list[Table]:
    """The figures of one table, as two tables for the screen."""
    profile = (
        f"{document['runtime']}, {document['threads']} thread(s), batch {document['batch']}, "
        f"{document['precision']}"
    )
    return [
        output.grid(
            title,
            ("", *COLUMNS),
            [[name, *cells(Scores(**figures))] for name, figures in document[part].items()],
        )
        for title, part in (
            (f"{document['table']}: {profile}; measured, {document['rounds']} rounds", "scores"),
            (f"{document['table']}: the table's error told in other ways", "more"),
        )
    ]


def measured_truth(table: LatencyTable, path: Path, options: Any, *, space: SearchSpace) -> Truth:
    """Times the table's networks, or goes on with what the file holds already.

    Raises UsageError when the file holds another question.
    """
    profile, environment = profile_here(table)
    networks = unseen_networks(table, options.networks, seed=options.seed, space=space)
    truth = Truth(
        table=table.name,
        profile=profile,
        networks=tuple(networks),
        seed=options.seed,
        rounds=options.rounds,
        piece=options.piece,
        environment=environment,
    )
    if path.exists():
        held = Truth.load(path)
        for name in ("profile", "networks", "seed", "rounds", "piece"):
            if getattr(held, name) != getattr(truth, name):
                raise UsageError(f"{path}: was timed with other {name}; ask the same, or remove the file")
        truth.pieces = held.pieces
    measure_truth(truth, path, report=output.say)
    return truth


def main() -> None:
    parser = output.parser(__doc__)
    parser.add_argument("tables", nargs="+", metavar="TABLE", help="a device's name, or a table's file")
    parser.add_argument("--from", dest="file", type=Path, metavar="FILE", help="analyse it, time nothing")
    parser.add_argument("--out", type=Path, metavar="FOLDER", default=Path("benchmarks/measured"))
    parser.add_argument("--networks", type=int, default=100, help="random ones, beside the presets")
    parser.add_argument("--rounds", type=int, default=3, help="fresh processes a network and occasion")
    parser.add_argument("--piece", type=int, default=40, help="networks that one process times")
    parser.add_argument("--seed", type=int, default=1, help="of the random networks and orders")
    options = parser.parse_args()
    if options.file is not None and len(options.tables) != 1:
        raise UsageError(f"--from analyses one table, got {len(options.tables)}")
    space = SearchSpace.default()
    documents = []
    for name in options.tables:
        table = LatencyTable.load(name)
        if table.provenance != "measured" or not table.rows:
            raise UsageError(f"the table '{table.name}' is estimated: only a measured one can be held to it")
        if options.file is not None:
            truth = Truth.load(options.file)
        else:
            path = options.out / f"{table.name}.truth.json"
            truth = measured_truth(table, path, options, space=space)
        documents.append(analysis(table, truth, space=space))
    tables = [grid for document in documents for grid in shown(document)]
    output.answer({"tables": documents}, tables, options.json)


if __name__ == "__main__":
    output.run(main)
