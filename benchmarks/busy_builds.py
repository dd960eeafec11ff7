"""What `hwnas table build` writes in a quiet hour, beside one busy process and beside two.

    python benchmarks/busy_builds.py [--busy 0 1 2] [--minutes 10] [--building 90] [--networks 60]
        [--rounds 3] [--folder FOLDER] [--json FILE]

Builds the same table three times, while so many processes loop; then, with nothing else running, times
networks that no build has seen (as latency_truth.py does) and judges every table by them. Told are the
exit code, the minutes, the error that the table states itself, its noise and mark, and its true error by
the clock and at the table's pace. Builds and timings are kept in FOLDER: the same command goes on where it
was stopped. Run it alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import latency_output as output
from latency_builds import build, busy_cores
from latency_prediction import table_score
from latency_scores import Scores
from latency_truth import Network, Truth, measure_truth, profile_here, unseen_networks

from hwnas.predictors.latency import LatencyTable
from hwnas.space import SearchSpace

BUILD_SEED = 1
"""Of all builds: they measure the same networks, which the judging ones are not among."""


def name_of(busy: int) -> str:
    return f"beside-{busy}"


def build_all(folder: Path, busy: Sequence[int], options: Sequence[str]) -> dict[int, dict[str, Any]]:
    """Each build's exit code, seconds and last words; those that are in the folder are not repeated."""
    found = {}
    for count in busy:
        output.say(f"building beside {count} busy processes")
        with busy_cores(count):
            found[count] = build(folder, name_of(count), options)
    return found


def truth_of(table: LatencyTable, path: Path, *, networks: int, presets: int | None, rounds: int) -> Truth:
    """What unseen networks take on the quiet machine; goes on where it was stopped."""
    if path.exists():
        truth = Truth.load(path)
    else:
        profile, environment = profile_here(table)
        drawn = unseen_networks(table, networks, seed=0, space=SearchSpace.default())
        random = [one for one in drawn if one.label.startswith("random-")]
        others = [one for one in drawn if not one.label.startswith("random-")][:presets]
        truth = Truth(
            table=table.name,
            profile=profile,
            networks=(*random, *others),
            seed=0,
            rounds=rounds,
            piece=40,
            environment=environment,
        )
    measure_truth(truth, path, report=output.say)
    return truth


def judged(table: LatencyTable, truth: Truth) -> dict[str, Any]:
    """What a table says of itself, and what is so."""
    networks = _predictable(table, truth.networks)
    at_pace = truth.measured(None, pace=table.pace) if table.pace is not None else truth.measured(None)
    true = table_score(table, networks, at_pace)
    by_clock = table_score(table, networks, at_pace, clock=True)
    return {
        "stated_mape_percent": table.heldout.mape_percent,
        "stated_interval_percent": 100 * (table.heldout.factor(0.9) - 1),
        "network_spread_percent": table.measurement.get("network_spread_percent"),
        "disturbed_cells": table.measurement.get("disturbed_cells"),
        "caveats": list(table.caveats),
        "true_scores": true.to_dict(),
        "true_clock_mape_percent": by_clock.mape_percent,
    }


def _predictable(table: LatencyTable, networks: Sequence[Network]) -> list[Network]:
    from hwnas.space import lower

    return [one for one in networks if not table.missing(lower(one.arch))]


def rows_of(document: Mapping[str, Any]) -> list[list[object]]:
    """A printed row for each build."""
    rows: list[list[object]] = []
    for busy, one in document["builds"].items():
        row: list[object] = [f"beside {busy} busy", one["exit_code"], one["seconds"] / 60]
        if "true_scores" in one:
            true = Scores(**one["true_scores"])
            row += [
                "noisy" if any("noisy" in text for text in one["caveats"]) else "",
                one["network_spread_percent"],
                one["stated_mape_percent"],
                true.mape_percent,
                one["true_clock_mape_percent"],
                true.within_5_percent,
                true.coverage_percent,
                true.spearman,
            ]
        else:
            row += [" ".join(one["said"])[:60], *[None] * 7]
        rows.append(row)
    return rows


COLUMNS = (
    "build",
    "exit code",
    "minutes",
    "mark",
    "spread %",
    "stated error %",
    "true error %",
    "by the clock %",
    "within 5 %",
    "in 90 % interval",
    "Spearman",
)


def main() -> None:
    parser = output.parser(__doc__)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2], help="busy processes beside each")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--building", type=int, default=90, help="networks a table is built from")
    parser.add_argument("--passes", type=int, default=6)
    parser.add_argument("--ops", default="fitting", help="as of the build: fitting, all or presets")
    parser.add_argument("--networks", type=int, default=60, help="random ones that judge the tables")
    parser.add_argument("--presets", type=int, help="only the first so many presets, for a short try")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/measured/busy"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    builds = build_all(options.folder, options.busy, _build_options(options))
    tables = {
        count: LatencyTable.load(options.folder / f"{name_of(count)}.yaml")
        for count, one in builds.items()
        if one["exit_code"] == 0
    }
    document: dict[str, Any] = {"builds": {str(count): one for count, one in builds.items()}}
    if tables:
        truth = truth_of(
            next(iter(tables.values())),
            options.folder / "truth.json",
            networks=options.networks,
            presets=options.presets,
            rounds=options.rounds,
        )
        for count, table in tables.items():
            document["builds"][str(count)] |= judged(table, truth)
    title = f"table build --minutes {options.minutes:g}, beside busy processes"
    output.answer(document, [output.grid(title, COLUMNS, rows_of(document))], options.json)


def _build_options(options: argparse.Namespace) -> list[str]:
    return [
        "--minutes",
        f"{options.minutes:g}",
        "--networks",
        str(options.building),
        "--passes",
        str(options.passes),
        "--ops",
        options.ops,
        "--seed",
        str(BUILD_SEED),
    ]


if __name__ == "__main__":
    output.run(main)
