"""Judges accuracy estimators on results.jsonl: parameters, MACs, a width and random always beside them.

    python experiments/ground_truth/evaluate.py

Judged is every estimator that estimate.py has asked about all trained networks, what can be learnt from
the trainings, by cross-validation, and what the trainings themselves said before their end. Order is
judged over all networks, and among networks of one bin of predicted latency on cpu-x86, where size no
longer explains everything. Writes evaluation-PROTOCOL.json and prints it as a table. `--bins first-width`
orders them among those whose first stage is as wide instead, and only prints that.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import estimate
import networks
import numpy as np
import table
from truth import BINS, Truth, truth

from hwnas.estimate import Estimate
from hwnas.metrics import Report, best_possible_tau, evaluate, kendall_tau, noise_std
from hwnas.predictors.accuracy.learned import learned, left_out
from hwnas.space import count_macs, count_params, lower
from hwnas.train.trainings import Condition, Training

K = 5
"""Networks that the regret lets an estimator choose."""
FEWEST_TO_LEARN = 16
"""Networks from which on what can be learnt is judged: cross-validation needs some to learn from."""
LEAST_ASKED = 0.9
"""Of the trained networks, the share that an estimator must tell to be judged; a supernet refuses those
outside of its space."""
PARTS = 10
"""Of the cross-validation."""
LEARNT_FROM, DRAWS = (8, 12, 16, 20, 24, 32, 48, 64), 10
"""Trainings that the learning curve learns from, each time drawn so often."""
FEWEST_TO_ORDER = 8
"""Other networks that it orders."""


def within_bins_tau(report: Report) -> float | None:
    """The bins' Kendall tau, each weighted by its number of pairs."""
    return weighted_by_pairs([(one.count, one.kendall_tau) for one in report.bins])


def weighted_by_pairs(taus: Sequence[tuple[int, float | None]]) -> float | None:
    """The mean of (networks, tau), each weighted by how many pairs so many networks make."""
    known = [(count * (count - 1) / 2, tau) for count, tau in taus if tau is not None]
    weight = sum(pairs for pairs, _ in known)
    return sum(pairs * tau for pairs, tau in known) / weight if weight else None


Answers = Sequence[Estimate | None]
"""What an estimator says of each trained network; None of one that it was not asked about, or refused."""


def answers(known: Truth, file: Path = estimate.FILE) -> dict[str, tuple[Answers, float]]:
    """What each estimator says of the trained networks, and what that cost in CPU seconds a network."""
    archs = [subject.arch for subject in known.subjects]
    rng = random.Random(0)
    found: dict[str, tuple[Answers, float]] = {
        "random": ([Estimate(rng.random()) for _ in archs], 0.0),
        "parameters": ([Estimate(count_params(lower(arch))) for arch in archs], 0.0),
        "MACs": ([Estimate(count_macs(lower(arch))) for arch in archs], 0.0),
        "width of the first stage": ([Estimate(arch.stages[0].width) for arch in archs], 0.0),
    }
    for name, rows in estimate.estimates(file).items():
        chosen = [rows.get(arch.id) for arch in archs]
        seconds = [row["cpu_seconds"] for row in chosen if row is not None]
        if len(seconds) >= LEAST_ASKED * len(archs):
            said = [None if row is None else estimate.as_estimate(row) for row in chosen]
            found[name] = said, statistics.median(seconds)
    if len(archs) >= FEWEST_TO_LEARN:
        started = time.process_time()
        learnt = left_out(archs, known.means_percent, parts=PARTS)
        found["learned, cross-validated"] = learnt, (time.process_time() - started) / len(archs)
        single = [one for name, one in found.items() if ",proxy=" in name and None not in one[0]]
        if single:
            scores = np.array([[each.value for each in said] for said, _ in single]).T
            started = time.process_time()
            learnt = left_out(archs, known.means_percent, parts=PARTS, scores=scores)
            seconds = (time.process_time() - started) / len(archs) + sum(cost for _, cost in single)
            found["learned with zero-cost scores, cross-validated"] = learnt, seconds
    return found | _curves(known)


def _curves(known: Truth) -> dict[str, tuple[Answers, float]]:
    """What the trainings themselves said before their end: as good as a shorter training could be.

    Better, even: the very training is asked that is to be told, with its seed and its learning rates.
    """
    epochs = len(known.by_epoch_percent[0])
    said: dict[str, tuple[Answers, float]] = {}
    for epoch in range(1, epochs):
        seconds = known.cpu_seconds * epoch / epochs
        accuracies = [Estimate(curve[epoch - 1]) for curve in known.by_epoch_percent]
        losses = [Estimate(-curve[epoch - 1]) for curve in known.loss_by_epoch]
        said[f"the training after {epoch} of {epochs} epochs"] = accuracies, seconds
        said[f"the training's loss in epoch {epoch} of {epochs}"] = losses, seconds
    return said


def _trainings(known: Truth) -> list[Training]:
    """What `learned` learns from: each network with the mean over its seeds."""
    condition = Condition("", "", networks.RESOLUTION, networks.STEM_STRIDE, 10)
    return [
        Training(subject.trained, condition, 0, percent)
        for subject, percent in zip(known.subjects, known.means_percent, strict=True)
    ]


def of_later_ones(protocol: str, first: int, file: Path = table.FILE) -> str:
    """How what was learnt from the networks of the table's first trainings tells those trained later."""
    early = {row["id"] for row in table.rows(protocol, file)[:first]}
    known = truth(protocol, file)
    before: list[Training] = []
    after: list[Training] = []
    for subject, training in zip(known.subjects, _trainings(known), strict=True):
        (before if subject.arch.id in early else after).append(training)
    estimator = learned(before)
    found = [one.top1_percent for one in after]
    said = [estimator.predict(one.arch).value for one in after]
    error = statistics.fmean(abs(one - other) for one, other in zip(said, found, strict=True))
    by_macs = kendall_tau(found, [count_macs(lower(one.arch)) for one in after])
    return (
        f"learned from {len(before)} networks, of {len(after)} trained later: tau "
        f"{_number(kendall_tau(found, said))} (MACs {_number(by_macs)}), {error:.2f} points off on average"
    )


def learning_curve(known: Truth) -> list[dict[str, float]]:
    """How `learned` orders the other networks, by how many trainings it has learnt from: means over draws."""
    of_each = _trainings(known)
    curve = []
    for count in LEARNT_FROM:
        if count + FEWEST_TO_ORDER > len(of_each):
            break
        taus = []
        for draw in range(DRAWS):
            drawn = random.Random(draw).sample(of_each, len(of_each))
            estimator, others = learned(drawn[:count]), drawn[count:]
            estimates = [estimator.predict(one.arch).value for one in others]
            taus.append(kendall_tau([one.top1_percent for one in others], estimates) or 0.0)
        curve.append({"trainings": count, "kendall_tau": statistics.fmean(taus)})
    return curve


def judged(known: Truth, file: Path = estimate.FILE) -> dict[str, Any]:
    """Plain data: the noise, what it allows, and each estimator's figures."""
    noise = noise_std(known.top1_percent)
    document: dict[str, Any] = {
        "networks": len(known.subjects),
        "trainings": sum(map(len, known.top1_percent)),
        "top1_percent": [min(known.means_percent), max(known.means_percent)],
        "cpu_seconds_a_training": known.cpu_seconds,
        "noise_std_points": noise,
        "estimators": [
            _figures(known, name, estimates, seconds)
            for name, (estimates, seconds) in answers(known, file).items()
        ],
    }
    if len(known.subjects) >= FEWEST_TO_LEARN:
        document["learning_curve"] = learning_curve(known)
    if noise is not None:
        stds = [noise / math.sqrt(len(one)) for one in known.top1_percent]
        document["best_possible"] = {
            "kendall_tau": best_possible_tau(known.means_percent, stds),
            "kendall_tau_within_bins": _best_within_bins(known, stds),
        }
    return document


def shown(document: dict[str, Any]) -> str:
    """The same as Markdown."""
    noise = document["noise_std_points"]
    low, high = document["top1_percent"]
    lines = [
        f"{document['networks']} networks, {document['trainings']} trainings. "
        f"Accuracy {low:.2f} to {high:.2f} %. Standard deviation over seeds: "
        + ("not known yet" if noise is None else f"{noise:.2f} points")
        + f". A training takes {document['cpu_seconds_a_training']:.0f} CPU s.",
        "",
        f"| estimator | tau | tau within bins | Spearman | regret of the best of {K} (points) "
        "| in 90 % interval | CPU s a network | of a training |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for one in document["estimators"]:
        held = [level["observed"] for level in one["calibration"] if level["level"] == 0.9]
        figures = [
            _with_error(one["kendall_tau"], one["kendall_tau_error"]),
            _with_error(one["kendall_tau_within_bins"], one["kendall_tau_within_bins_error"]),
            _number(one["spearman"]),
            _number(one["top_k_regret_points"]),
            f"{100 * held[0]:.0f} %" if held else "-",
            f"{one['cpu_seconds']:.2g}" if one["cpu_seconds"] else "-",
            f"{100 * one['cpu_seconds'] / document['cpu_seconds_a_training']:.2g} %"
            if one["cpu_seconds"] and document["cpu_seconds_a_training"]
            else "-",
        ]
        few = one["networks"] < document["networks"]
        name = one["name"] + (f" ({one['networks']} networks)" if few else "")
        lines.append(f"| {name} | " + " | ".join(figures) + " |")
    if "best_possible" in document:
        best = document["best_possible"]
        lines.append(
            f"| best possible, given the noise | {_number(best['kendall_tau'])} "
            f"| {_number(best['kendall_tau_within_bins'])} | - | - | - | - | - |"
        )
    if document.get("learning_curve"):
        lines += ["", f"| learned from (mean of {DRAWS} draws) | tau of the other networks |", "|---|---:|"]
        lines += [
            f"| {one['trainings']} networks | {_number(one['kendall_tau'])} |"
            for one in document["learning_curve"]
        ]
    return "\n".join(lines) + "\n"


def _figures(known: Truth, name: str, answers: Answers, seconds: float) -> dict[str, Any]:
    estimates = {place: said for place, said in enumerate(answers) if said is not None}

    def report(places: Sequence[int]) -> Report:
        return evaluate(
            [known.means_percent[place] for place in places],
            [estimates[place] for place in places],
            bins=[known.bins[place] for place in places],
            k=K,
            higher_is_better=True,
        )

    every = list(estimates)
    whole = report(every)
    # Without one network each: what the figures would be with other networks (jackknife).
    others = [report([place for place in every if place != left]) for left in every]
    unit = estimates[every[0]].unit
    accuracies = unit == "%"
    return {
        "name": name,
        "networks": len(every),
        "unit": unit,
        "cpu_seconds": seconds,
        "kendall_tau": whole.overall.kendall_tau,
        "kendall_tau_error": _jackknife([one.overall.kendall_tau for one in others]),
        "kendall_tau_within_bins": within_bins_tau(whole),
        "kendall_tau_within_bins_error": _jackknife([within_bins_tau(one) for one in others]),
        "spearman": whole.overall.spearman,
        "top_k_regret_points": whole.overall.top_k_regret,
        "mean_absolute_error_points": whole.overall.mean_absolute_error if accuracies else None,
        "calibration": [
            {"level": one.level, "observed": one.observed} for one in whole.overall.calibration if accuracies
        ],
        "bins": [
            {"name": one.label, "networks": one.count, "kendall_tau": one.kendall_tau} for one in whole.bins
        ],
    }


def _jackknife(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < 3:
        return None
    return math.sqrt((len(known) - 1) * statistics.pvariance(known))


def _best_within_bins(known: Truth, stds: Sequence[float]) -> float | None:
    best = []
    for name in dict.fromkeys(known.bins):
        places = [place for place, bin_ in enumerate(known.bins) if bin_ == name]
        accuracies = [known.means_percent[place] for place in places]
        best.append((len(places), best_possible_tau(accuracies, [stds[place] for place in places])))
    return weighted_by_pairs(best)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _with_error(value: float | None, error: float | None) -> str:
    return _number(value) + ("" if error is None else f" ± {error:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--protocol", default="cpu")
    parser.add_argument("--table", type=Path, default=table.FILE, help="the table of the trainings")
    parser.add_argument("--out", type=Path, help="the JSON file that is written")
    parser.add_argument(
        "--first", type=int, help="only learn from so many first trainings, and judge it on later networks"
    )
    parser.add_argument("--bins", choices=BINS, default="latency", help="what the networks of a bin share")
    arguments = parser.parse_args()
    if arguments.first is not None:
        print(of_later_ones(arguments.protocol, arguments.first, arguments.table))
        return
    known = truth(arguments.protocol, arguments.table)
    if len(known.subjects) < 2:
        raise SystemExit(
            f"order needs at least 2 trained networks, got {len(known.subjects)}: "
            "run experiments/ground_truth/run.py first"
        )
    document = judged(replace(known, bin_of=BINS[arguments.bins]))
    if arguments.bins != "latency":
        print(shown(document))
        return
    out = arguments.out or Path(__file__).with_name(f"evaluation-{arguments.protocol}.json")
    out.write_text(json.dumps(document, indent=1) + "\n")
    print(shown(document))


if __name__ == "__main__":
    main()
