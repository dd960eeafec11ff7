"""How many candidates' latencies a table predicts a second, and whether they are the one-at-a-time ones.

    python benchmarks/latency_rate.py [TABLE] [--json FILE]

100,000 random networks of the default space in one call of `predict_many`: the first call, which fills
its arrays, and the median of five more. Then `predict` of 1,000 of them, one at a time.
"""

from __future__ import annotations

import random
import statistics
import time

import latency_output as output
import numpy as np

from hwnas.predictors.latency import LatencyTable
from hwnas.space import SearchSpace


def difference(many: np.ndarray, single: np.ndarray) -> float:
    """The largest relative difference of two answers for the same networks."""
    return float(np.max(np.abs(many / single - 1)))


def main() -> None:
    parser = output.parser(__doc__)
    parser.add_argument("table", nargs="?", default="cpu-x86", help="a device's name, or a table's file")
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--singles", type=int, default=1000, help="of them, predicted one at a time too")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    table, space = LatencyTable.load(options.table), SearchSpace.default()
    rng = random.Random(options.seed)
    encoded = np.array([space.encode(space.sample(rng)) for _ in range(options.candidates)])
    taken_s = []
    for _ in range(6):
        start = time.perf_counter()
        many = table.predict_many(encoded, space)
        taken_s.append(time.perf_counter() - start)
    start = time.perf_counter()
    some = [space.decode(vector) for vector in encoded[: options.singles].tolist()]
    single = np.array([table.predict(arch).value for arch in some])
    singles_s = time.perf_counter() - start
    warm_s = statistics.median(taken_s[1:])
    document = {
        "table": table.name,
        "candidates": len(encoded),
        "first_call_per_s": len(encoded) / taken_s[0],
        "per_s": len(encoded) / warm_s,
        "one_at_a_time_per_s": len(single) / singles_s,
        "compared": len(single),
        "largest_relative_difference": difference(many[: len(single)], single),
        "promised_per_s": 200_000,
    }
    rows = [
        ("predict_many, median of 5", f"{document['per_s']:,.0f}"),
        ("predict_many, first call", f"{document['first_call_per_s']:,.0f}"),
        ("decode and predict, one at a time", f"{document['one_at_a_time_per_s']:,.0f}"),
        ("promised", f"{document['promised_per_s']:,}"),
        (
            f"largest relative difference, {len(single):,} networks",
            f"{document['largest_relative_difference']:.1e}",
        ),
    ]
    title = f"{table.name} ({table.provenance}): {len(encoded):,} candidates"
    output.answer(document, [output.grid(title, ("", "candidates a second"), rows)], options.json)


if __name__ == "__main__":
    output.run(main)
