"""A table built, and networks that it does not know timed meanwhile, in one run.

    python benchmarks/latency_one_run.py --name NAME [--runtime R] [--threads N] [--batch N] [--precision P]
        [--provider P] [--minutes M] [--building N] [--networks N] [--passes N] [--out FOLDER] [--json FILE]

A machine on a shared host is several percent faster or slower from one quarter of an hour to the next,
and then a table that was right is wrong by as much. So that the figures are the predictor's and not the
machine's, the random networks and presets that judge the table are timed in the same passes as what it
is built from, and are used for nothing in it. The first, third, fifth pass are the truth, those between
the noise floor; each is a process of its own. Both are told at the machine's middle speed over the whole
run. The figures are those of latency_prediction.py, which can also tell them at other speeds:

    python benchmarks/latency_prediction.py FOLDER/NAME.yaml --from FOLDER/NAME.truth.json

Interrupted, the same command goes on. Run it alone.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import latency_output as output
from latency_prediction import analysis, shown
from latency_truth import DRAWS, MACRO, OTHER, RANDOM, Network, Truth

from hwnas.export.timing import one_thread
from hwnas.measure.build import build_table
from hwnas.measure.networks import exporter_for
from hwnas.measure.plan import Plan, make_plan, of_any_size
from hwnas.measure.remote.hosts import LOCAL, start_link
from hwnas.predictors.latency import LatencyTable
from hwnas.space import SearchSpace, preset, preset_names


def judged_plan(space: SearchSpace, options: Any) -> tuple[Plan, tuple[Network, ...]]:
    """The plan of a table, and the networks watched beside it."""
    plan = make_plan(
        space,
        networks=options.building,
        passes=options.passes,
        minutes=options.minutes,
        seed=options.seed,
    )
    stream = random.Random(f"{options.seed}/networks")
    known = {of_any_size(space, stream).id for _ in range(DRAWS)} | {
        preset(name).id for name in preset_names()
    }
    rng = random.Random(f"{options.seed}/unseen networks")
    networks: list[Network] = []
    while len(networks) < options.networks:
        arch = of_any_size(space, rng)
        if arch.id not in known:
            known.add(arch.id)
            networks.append(Network(f"random-{arch.id}", RANDOM, arch))
    for name in preset_names():
        group = MACRO if space.contains(preset(name)) else OTHER
        networks.append(Network(name, group, preset(name)))
    watched = tuple((network.label, network.arch) for network in networks)
    return dataclasses.replace(plan, watched=watched), tuple(networks)


def truth_of(samples: Path, table: LatencyTable, networks: tuple[Network, ...], plan: Plan) -> Truth:
    """What the build's samples tell of the networks that were watched."""
    labels = {network.label for network in networks}
    pieces: dict[int, dict[str, Any]] = {}
    for line in samples.read_text(encoding="utf-8").splitlines()[1:]:
        record = json.loads(line)
        if record["cell"] in labels:
            # Of a pass the last attempt: what was disturbed was timed again.
            pieces.setdefault(record["pass"], {})[record["cell"]] = _timing(record)
    return Truth(
        table=table.name,
        profile=table.profile,
        networks=networks,
        seed=plan.seed,
        rounds=plan.passes // 2,
        piece=len(networks),
        pieces=[
            {"occasion": number % 2, "round": number // 2, "number": 0, "timings": timings}
            for number, timings in sorted(pieces.items())
        ],
        environment=dict(table.environment),
    )


def _timing(record: Mapping[str, Any]) -> dict[str, float]:
    return {
        "clock_ms": record["median_ms"],
        "beside_ms": record["reference_ms"],
        "p95_ms": record["p95_ms"],
        "cpu_share": record["cpu_share"],
    }


def main() -> None:
    parser = output.parser(__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--runtime", default="onnxruntime")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--provider")
    parser.add_argument("--minutes", type=float, default=10.0, help="what the table alone would take")
    parser.add_argument("--building", type=int, default=90, help="networks the table is built from")
    parser.add_argument("--networks", type=int, default=100, help="random ones that judge it")
    parser.add_argument("--passes", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, metavar="FOLDER", default=Path("benchmarks/measured"))
    options = parser.parse_args()
    space = SearchSpace.default()
    plan, networks = judged_plan(space, options)
    path, samples = options.out / f"{options.name}.yaml", options.out / f"{options.name}.samples"
    with one_thread():
        table = build_table(
            plan,
            name=options.name,
            runtime=options.runtime,
            threads=options.threads,
            batch=options.batch,
            precision=options.precision,
            provider=options.provider,
            exporter=exporter_for(options.runtime, options.precision),
            start=start_link(LOCAL, options.runtime),
            samples=samples,
            created=datetime.date.today().isoformat(),
            resume=True,
            progress=_progress,
        )
    table.save(path)
    truth = truth_of(samples, table, networks, plan)
    truth.save(options.out / f"{options.name}.truth.json")
    document = analysis(table, truth, space=space, pace=table.pace)
    output.answer({"tables": [document]}, shown(document), options.json)


def _progress(what: str, done: int, total: int, of: str) -> None:
    if done % 200 == 0:
        output.say(f"{what}: {done}" + (f" of {total}" if total else ""))


if __name__ == "__main__":
    output.run(main)
