"""Whether weights that repeat change a timing: the same cells with repeated and with random weights.

    python benchmarks/repeated_weights.py [--rounds 10] [--runtime onnxruntime] [--json FILE]

Twelve ops and four networks. In each round, a process of its own, each is timed three times in turns with
the reference network, right after one another and in random order: with the weights that are exported for
timing (hwnas.export.timing.random_weights), and with two
draws of random weights of the same spread in their place. Told
are two ratios, each with its 95 % interval over the rounds: repeated to random, and random to random, which
is what noise alone does. Needs a quiet machine; about half a minute a round.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hwnas.export.timing import exporter, one_thread  # noqa: E402
from hwnas.export.timing.random_weights import PERIOD  # noqa: E402
from hwnas.measure.build import measured_profile  # noqa: E402
from hwnas.measure.cells import NETWORK_RULES, OP_RULES  # noqa: E402
from hwnas.measure.plan import REFERENCE_NETWORK, spread_out  # noqa: E402
from hwnas.measure.remote.link import LocalLink  # noqa: E402
from hwnas.space import lower, preset, preset_names  # noqa: E402

NETWORKS = ("uniform-t", "shvit-s2", "efficientvit-m2", "uniform-l")
OPS = 12
REPEATED, RANDOM, RANDOM_TOO = "repeated", "random", "random too"
ALL = "all cells"

Timings = Mapping[str, Mapping[str, float]]
"""By cell, then by its weights: ms."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """What a cell takes with some weights over what it takes with random ones."""

    cell: str
    weights: str
    ratio: float
    low: float
    high: float
    """Of the 95 % interval: 2 standard errors of the rounds' logarithms."""


def with_random_weights(model: bytes, seed: int) -> bytes:
    """The ONNX model with each large weight drawn anew, evenly, with the mean and spread that it had."""
    import onnx
    from onnx import numpy_helper

    parsed = onnx.load_model_from_string(model)
    rng = np.random.default_rng(seed)
    for weight in parsed.graph.initializer:
        array = numpy_helper.to_array(weight)
        if array.size > PERIOD and array.dtype == np.float32:
            drawn = array.mean() + math.sqrt(3) * array.std() * rng.uniform(-1, 1, array.shape)
            weight.CopyFrom(numpy_helper.from_array(drawn.astype(np.float32), weight.name))
    return bytes(parsed.SerializeToString(deterministic=True))


def cells() -> dict[str, dict[str, bytes]]:
    """The models by cell and weights: ops that have large ones, as different as there are, and networks."""
    ops = {op.key: op for name in preset_names() for op in lower(preset(name))}
    heavy = [op for op in ops.values() if op.params > 100 * PERIOD]
    to_model = exporter("onnxruntime", "fp32")
    models = {op.key: to_model.op_model(op, batch=1) for op in spread_out(heavy, OPS)}
    models |= {name: to_model.network_model(preset(name), batch=1) for name in NETWORKS}
    return {
        name: {
            REPEATED: model,
            RANDOM: with_random_weights(model, 0),
            RANDOM_TOO: with_random_weights(model, 1),
        }
        for name, model in models.items()
    }


def time_round(models: Mapping[str, Mapping[str, bytes]], runtime: str, rng: random.Random) -> Timings:
    """Every cell with all its weights, in one process; at the reference network's speed beside each."""
    profile, _ = measured_profile(
        lambda: LocalLink(runtime), runtime=runtime, threads=1, batch=1, precision="fp32"
    )
    reference = exporter("onnxruntime", "fp32").network_model(preset(REFERENCE_NETWORK), batch=1)
    found: dict[str, dict[str, float]] = {}
    with LocalLink(runtime) as link:
        for name in rng.sample(list(models), len(models)):
            link.reference(reference, profile=profile)
            rules = NETWORK_RULES if name in NETWORKS else OP_RULES
            for weights in rng.sample(list(models[name]), len(models[name])):
                answer = link.measure(models[name][weights], rules=rules, profile=profile, beside=True)
                found.setdefault(name, {})[weights] = answer["median_ms"] / answer["reference_ms"]
    return found


def ratios(rounds: Sequence[Timings]) -> list[Ratio]:
    """Of each cell, and of all together, a round's mean being one value then."""
    found = []
    for weights in (REPEATED, RANDOM_TOO):
        logs = {
            name: [math.log(timed[name][weights] / timed[name][RANDOM]) for timed in rounds]
            for name in rounds[0]
        }
        logs[ALL] = np.mean(list(logs.values()), axis=0).tolist()
        found += [_ratio(name, weights, values) for name, values in logs.items()]
    return found


def _ratio(cell: str, weights: str, logs: Sequence[float]) -> Ratio:
    middle, reach = float(np.mean(logs)), 2 * float(np.std(logs, ddof=1)) / math.sqrt(len(logs))
    return Ratio(cell, weights, math.exp(middle), math.exp(middle - reach), math.exp(middle + reach))


def main(arguments: Sequence[str]) -> int:
    """Times all rounds and prints a row for each cell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--runtime", default="onnxruntime", help="one that reads ONNX")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    asked = parser.parse_args(arguments)
    if asked.rounds < 2:
        parser.error(f"--rounds must be at least 2, for an interval, got {asked.rounds}")
    with one_thread():
        models = cells()
        rng = random.Random(0)
        rounds = []
        for number in range(asked.rounds):
            rounds.append(time_round(models, asked.runtime, rng))
            print(f"round {number + 1} of {asked.rounds}", file=sys.stderr)
    found = ratios(rounds)
    print(f"{'over random weights:':60} {REPEATED:>24} {RANDOM_TOO:>24}")
    for one, other in zip(found[: len(found) // 2], found[len(found) // 2 :], strict=True):
        told = [f"{ratio.ratio:.3f} ({ratio.low:.3f}-{ratio.high:.3f})" for ratio in (one, other)]
        print(f"{one.cell:60} {told[0]:>24} {told[1]:>24}")
    if asked.json is not None:
        document = {
            "runtime": asked.runtime,
            "rounds": asked.rounds,
            "ratios": [asdict(row) for row in found],
        }
        asked.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
