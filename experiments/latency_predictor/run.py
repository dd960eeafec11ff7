"""What turns op timings into a network's milliseconds best: ideas compared on networks left out.

    python experiments/latency_predictor/run.py NAME.samples [--networks 90] [--seed 0] [--json FILE]

From the raw samples of one finished build of the default space (`hwnas table build` leaves them beside the
table; --networks and --seed as the build had them). Every network that was drawn at random is predicted
by a fit without it and the rest of its fold, ten folds in all, by each idea.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from hwnas.board.timing import median
from hwnas.io.atomic import write_whole
from hwnas.measure.cells import timings
from hwnas.measure.plan import make_plan
from hwnas.measure.samples import read_samples
from hwnas.metrics import mape_percent, within_percent
from hwnas.predictors.latency import fit_fill
from hwnas.predictors.latency.calibration import Composition, compose, fit_calibration
from hwnas.predictors.latency.residual import Residual
from hwnas.space import OpSpec, SearchSpace, lower

FOLDS = 10

Records = Sequence[Mapping[str, Any]]
Predict = Callable[[Composition], float]
Fit = Callable[[Sequence[Composition], Sequence[float], float], Predict]


def plain_sum(networks: Sequence[Composition], measured_ms: Sequence[float], smallest_ms: float) -> Predict:
    """Ops timed alone, added up; nothing is fitted."""
    return lambda network: network.features[0]


def two_numbers(networks: Sequence[Composition], measured_ms: Sequence[float], smallest_ms: float) -> Predict:
    """A slope and an offset, by relative least squares."""
    measured = np.asarray(measured_ms)
    sums = np.array([network.features[0] for network in networks])
    design = np.column_stack([sums, np.ones_like(sums)]) / measured[:, None]
    slope, offset = np.linalg.lstsq(design, np.ones_like(sums), rcond=None)[0]
    return lambda network: float(slope * network.features[0] + offset)


def scales(networks: Sequence[Composition], measured_ms: Sequence[float], smallest_ms: float) -> Predict:
    """A non-negative scale per kind, offset, per-op overhead, weights beyond the cache; no residual."""
    fitted = fit_calibration(networks, measured_ms, smallest_op_ms=smallest_ms).calibration
    return dataclasses.replace(fitted, residual=Residual()).network_ms


def shipped(networks: Sequence[Composition], measured_ms: Sequence[float], smallest_ms: float) -> Predict:
    """The same, times a residual that is smooth in the network's size: what tables have."""
    return fit_calibration(networks, measured_ms, smallest_op_ms=smallest_ms).calibration.network_ms


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("samples", type=Path)
    parser.add_argument("--networks", type=int, default=90)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    records: Records = read_samples(arguments.samples).rows
    plan = make_plan(SearchSpace.default(), networks=arguments.networks, seed=arguments.seed)
    archs = dict(plan.networks)
    timed = timings(records, lambda cell: "(" not in cell)
    if not archs.keys() <= timed.keys():
        raise SystemExit("these samples are of another plan: give its --networks and --seed")
    timed = {cell: timing for cell, timing in timed.items() if cell in archs or "(" in cell}

    ops = {op.key: op for arch in archs.values() for op in lower(arch)}
    warm = _with_filled({key: timed[key].ms for key in timed if key not in archs}, ops)
    extra = _with_filled(_cold_extra_ms(records, archs), ops)
    smallest_ms = min(warm.values())
    of_ops = {label: compose(lower(arch), lambda op: warm[op.key]) for label, arch in archs.items()}
    one_cold = {label: _with_cold(of_ops[label], lower(archs[label]), extra, False) for label in archs}
    kind_cold = {label: _with_cold(of_ops[label], lower(archs[label]), extra, True) for label in archs}
    ideas: dict[str, tuple[Fit, Mapping[str, Composition]]] = {
        "plain sum": (plain_sum, of_ops),
        "slope and offset": (two_numbers, of_ops),
        "a scale per kind": (scales, of_ops),
        "... and one for cold first runs": (scales, one_cold),
        "... and one per kind for cold first runs": (scales, kind_cold),
        "a scale per kind, residual (shipped)": (shipped, of_ops),
        "... and one for cold first runs, residual": (shipped, one_cold),
    }
    measured = {label: timed[label].ms for label in archs}
    drawn = [label for label, _ in plan.drawn]
    answers = []
    for name, (fit, compositions) in ideas.items():
        predicted = _left_out(fit, compositions, measured, smallest_ms)
        own, told = [measured[label] for label in drawn], [predicted[label] for label in drawn]
        answers.append(
            {
                "idea": name,
                "mape_percent": mape_percent(own, told),
                "within_5_percent": within_percent(own, told, 5),
                "worst_percent": max(100 * abs(b / a - 1) for a, b in zip(own, told, strict=True)),
            }
        )
    grid = Table("idea", "MAPE %", "within 5 %", "worst %", box=None)
    for row in answers:
        grid.add_row(
            str(row["idea"]),
            *(f"{row[key]:.2f}" for key in ("mape_percent", "within_5_percent", "worst_percent")),
        )
    Console().print(f"{len(drawn)} networks, each predicted by a fit without it (measured and predicted, ms)")
    Console().print(grid)
    if arguments.json:
        write_whole(
            arguments.json, json.dumps({"schema": 1, "networks": len(drawn), "ideas": answers}, indent=1)
        )


def _left_out(
    fit: Fit, networks: Mapping[str, Composition], measured_ms: Mapping[str, float], smallest_ms: float
) -> dict[str, float]:
    """Each network by a fit without its fold."""
    labels = list(networks)
    random.Random(0).shuffle(labels)
    predicted = {}
    for number in range(FOLDS):
        left, kept = labels[number::FOLDS], [label for n, label in enumerate(labels) if n % FOLDS != number]
        predict = fit(
            [networks[label] for label in kept], [measured_ms[label] for label in kept], smallest_ms
        )
        predicted |= {label: predict(networks[label]) for label in left}
    return predicted


def _cold_extra_ms(records: Records, archs: Mapping[str, Any]) -> dict[str, float]:
    """By op: how much longer a first run takes, right after the reference network, than those that follow."""
    by_op: dict[str, list[float]] = {}
    for record in records:
        if record["cell"] not in archs:
            extra_ms = median(record["cold_ns"]) / 1e6 - record["median_ms"]
            by_op.setdefault(record["cell"], []).append(extra_ms)
    return {key: max(median(values), 1e-6) for key, values in by_op.items()}


def _with_filled(known: Mapping[str, float], ops: Mapping[str, OpSpec]) -> dict[str, float]:
    """Also the ops that the build did not time, by the cost model that tables use."""
    timed = [key for key in known if key in ops]
    fill = fit_fill([ops[key] for key in timed], [known[key] for key in timed])
    return {key: known[key] if key in known else fill.predict_ms(op)[0] for key, op in ops.items()}


def _with_cold(
    network: Composition, ops: Sequence[OpSpec], extra_ms: Mapping[str, float], by_kind: bool
) -> Composition:
    """The network with the cold first runs' extra time as kinds of their own."""
    kinds = dict(network.kinds)
    for op in ops:
        name = f"cold {op.kind}" if by_kind else "cold"
        kinds[name] = (kinds.get(name, (0.0, 0))[0] + extra_ms[op.key], 0)
    return dataclasses.replace(network, kinds=kinds)


if __name__ == "__main__":
    main()
