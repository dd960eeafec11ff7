"""How good the accuracy estimator `published` is: prints the tables of README.md.

python experiments/accuracy_published/evaluate.py
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hwnas.estimate import Estimate
from hwnas.metrics import evaluate
from hwnas.predictors.accuracy.published import PublishedRow, fit, published_rows
from hwnas.predictors.latency import LatencyTable
from hwnas.space.arch import ArchSpec, SingleHead
from hwnas.space.ops import count_macs, count_params, lower
from hwnas.space.search_space import SearchSpace
from hwnas.space.vectors import Moves

Fold = Callable[[PublishedRow], str]
Fitted = Callable[[ArchSpec], Estimate]

FOLDS: dict[str, Fold] = {"leave one network out": lambda row: row.network}
FOLDS["leave one family out"] = lambda row: row.family


def size_fit(rows: Sequence[PublishedRow]) -> Fitted:
    """The simple competitor: a straight line in ln(MACs) and ln(parameters), least squares."""

    def numbers(arch: ArchSpec) -> NDArray[np.float64]:
        ops = lower(arch)
        return np.array([1.0, np.log(count_macs(ops)), np.log(count_params(ops))])

    presets = [row for row in rows if not row.variant]
    line = np.linalg.lstsq(
        np.array([numbers(row.arch) for row in presets]),
        np.array([row.top1_percent for row in presets]),
        rcond=None,
    )[0]
    return lambda arch: Estimate(float(numbers(arch) @ line), unit="%")


def published_fit(rows: Sequence[PublishedRow]) -> Fitted:
    return fit(rows).predict


def held_out(
    method: Callable[[Sequence[PublishedRow]], Fitted], rows: Sequence[PublishedRow], fold: Fold
) -> dict[str, Estimate]:
    """Each preset predicted by a fit without its fold (variants of a preset leave with it)."""
    return {
        row.network: method([other for other in rows if fold(other) != fold(row)])(row.arch)
        for row in rows
        if not row.variant
    }


def error_rows(rows: Sequence[PublishedRow]) -> Iterator[str]:
    presets = [row for row in rows if not row.variant]
    truth = [row.top1_percent for row in presets]
    yield "| estimator | judged by | mean abs. error | Kendall tau | in 90 % interval | within 1 std |"
    yield "|---|---|---|---|---|---|"
    for name, method in (("published", published_fit), ("line in ln(MACs), ln(params)", size_fit)):
        for label, fold in FOLDS.items():
            found = list(held_out(method, rows, fold).values())
            scores = evaluate(truth, found, bins=1, higher_is_better=True).overall
            inside = scores.interval_coverage_percent
            within = [abs(e.value - t) <= e.std for e, t in zip(found, truth, strict=True) if e.std]
            yield (
                f"| {name} | {label} | {scores.mean_absolute_error:.2f} points | {scores.kendall_tau:.2f} | "
                f"{'-' if inside is None else f'{inside:.0f} %'} | "
                f"{f'{100 * np.mean(within):.0f} %' if within else '-'} |"
            )


def network_rows(rows: Sequence[PublishedRow]) -> Iterator[str]:
    folds = {label: held_out(published_fit, rows, fold) for label, fold in FOLDS.items()}
    yield "| network | published | in sample | network left out | family left out |"
    yield "|---|---|---|---|---|"
    for row in rows:
        if not row.variant:
            shown = [fit(rows).predict(row.arch), *(found[row.network] for found in folds.values())]
            cells = " | ".join(f"{one.value:.1f} ± {one.std:.1f}" for one in shown)
            yield f"| {row.network} | {row.top1_percent} | {cells} |"


def winner_rows(device: str, budgets_ms: Sequence[float]) -> Iterator[str]:
    """What a search that exploits the estimator ends at: an evolution of value - std, seed 0."""
    moves = Moves(SearchSpace.default())
    space, table, predict = SearchSpace.default(), LatencyTable.load(device), fit(published_rows()).predict
    yield f"| budget, {device} (estimated) | latency | top-1 | MACs | params | network |"
    yield "|---|---|---|---|---|---|"
    for budget in budgets_ms:
        rng, steps = random.Random(0), np.random.default_rng(0)
        known: dict[ArchSpec, float] = {}

        def worth(arch: ArchSpec, budget: float = budget, known: dict[ArchSpec, float] = known) -> float:
            if arch not in known:
                latency = table.predict(arch).value
                known[arch] = predict(arch).lower_bound() if latency <= budget else -latency
            return known[arch]

        alive = sorted((space.sample(rng) for _ in range(200)), key=worth, reverse=True)[:50]
        for _ in range(50):
            parents = np.array([space.encode(rng.choice(alive[:25])) for _ in range(60)])
            changes = steps.choice([1, 1, 2, 3], size=len(parents))
            children = [space.decode(row) for row in moves.neighbours(parents, steps, changes=changes)]
            alive = sorted(dict.fromkeys(alive + children), key=worth, reverse=True)[:50]
        best, ops = alive[0], lower(alive[0])
        found = predict(best)
        yield (
            f"| {budget:g} ms | {table.predict(best).value:.1f} ms | {found.value:.1f} ± {found.std:.1f} | "
            f"{count_macs(ops) / 1e6:.0f}M | {count_params(ops) / 1e6:.1f}M | {written(best)} |"
        )


def written(arch: ArchSpec) -> str:
    """A network in a line: width, layout, ffn ratio, attentions of each stage."""
    stages = []
    for stage in arch.stages:
        attentions = Counter(
            "none"
            if block is None
            else f"single 1/{stage.width / block.channels:.1f}"
            if isinstance(block, SingleHead)
            else block.type
            for block in stage.blocks
        )
        parts = ", ".join(f"{count} {name}" for name, count in attentions.items())
        stages.append(f"{stage.width} {stage.layout} x{stage.ffn_ratio} ({parts})")
    return f"{arch.resolution} px: " + "; ".join(stages)


def speed() -> str:
    """Predictions a second on networks never seen before, lowering included."""
    space, rng, predict = SearchSpace.default(), random.Random(1), fit(published_rows()).predict
    archs = [space.sample(rng) for _ in range(3000)]
    start = time.perf_counter()
    stds = [predict(arch).std for arch in archs]
    rate = len(archs) / (time.perf_counter() - start)
    low, middle, high = np.percentile(stds, [5, 50, 95])
    return (
        f"{rate:.0f} predictions a second; std of 3,000 random networks of the default space: "
        f"{low:.1f} (5 %), {middle:.1f} (median), {high:.1f} points (95 %)"
    )


def main() -> None:
    rows = published_rows()
    for part in (error_rows(rows), network_rows(rows), winner_rows("rpi4", (15, 20, 40, 80))):
        print("\n".join(part), end="\n\n")
    print(speed())


if __name__ == "__main__":
    main()
