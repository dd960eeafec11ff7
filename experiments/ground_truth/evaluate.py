"""Judges accuracy estimators on results.jsonl: parameters, MACs and random always beside them.

    python experiments/ground_truth/evaluate.py published [REFERENCE ...]

A REFERENCE is what `hwnas search --accuracy` takes. Order is judged over all networks, and among
networks of one bin of predicted latency on cpu-x86, where size no longer explains everything.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import networks
import table

from hwnas.predictors.accuracy import load_accuracy
from hwnas.predictors.estimate import Estimate
from hwnas.predictors.evaluation import Report, best_possible_tau, evaluate, noise_std
from hwnas.space import ArchSpec, count_macs, count_params, lower

K = 5
"""Networks that the regret lets an estimator choose."""


@dataclass(frozen=True, slots=True)
class Truth:
    """The networks of the ground truth with what their trainings came to."""

    subjects: tuple[networks.Subject, ...]
    top1_percent: tuple[tuple[float, ...], ...]
    """Of each network, one for each seed."""

    @property
    def means_percent(self) -> list[float]:
        """Mean over the seeds."""
        return [sum(one) / len(one) for one in self.top1_percent]

    @property
    def bins(self) -> list[str]:
        """Each network's bin of predicted latency."""
        return [_bin(subject.latency_ms) for subject in self.subjects]


def truth(protocol: str, file: Path = table.FILE) -> Truth:
    """What is in the table so far, in the order of the networks."""
    by_id: dict[str, list[float]] = {}
    for row in table.rows(protocol, file):
        by_id.setdefault(row["id"], []).append(row["top1_percent"])
    trained = [subject for subject in networks.subjects() if subject.arch.id in by_id]
    return Truth(tuple(trained), tuple(tuple(by_id[subject.arch.id]) for subject in trained))


def within_bins_tau(report: Report) -> float | None:
    """The bins' Kendall tau, each weighted by its number of pairs."""
    known = [
        (one.count * (one.count - 1) / 2, one.kendall_tau)
        for one in report.bins
        if one.kendall_tau is not None
    ]
    weight = sum(pairs for pairs, _ in known)
    return sum(pairs * tau for pairs, tau in known) / weight if known else None


def estimators(references: Sequence[str]) -> dict[str, Callable[[ArchSpec], Estimate | float]]:
    """The baselines and the estimators that were asked for, by name."""
    rng = random.Random(0)
    found: dict[str, Callable[[ArchSpec], Estimate | float]] = {
        "random": lambda arch: rng.random(),
        "parameters": lambda arch: float(count_params(lower(arch))),
        "MACs": lambda arch: float(count_macs(lower(arch))),
    }
    return found | {reference: load_accuracy(reference).predict for reference in references}


def judged(known: Truth, references: Sequence[str]) -> str:
    """The table, as Markdown."""
    noise = noise_std(known.top1_percent)
    lines = [
        f"{len(known.subjects)} networks, {sum(map(len, known.top1_percent))} trainings. Accuracy "
        f"{min(known.means_percent):.2f} to {max(known.means_percent):.2f} %. Standard deviation over seeds: "
        + ("not known yet" if noise is None else f"{noise:.2f} points")
        + ".",
        "",
        f"| estimator | tau | tau within bins | Spearman | regret of the best of {K} (points) "
        "| within 90 % interval by std | s a network |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, predict in estimators(references).items():
        started = time.perf_counter()
        estimates = [predict(subject.arch) for subject in known.subjects]
        seconds = (time.perf_counter() - started) / len(estimates)
        report = evaluate(known.means_percent, estimates, bins=known.bins, k=K, higher_is_better=True)
        held = [one.observed for one in report.overall.calibration if one.level == 0.9]
        figures = [
            _shown(report.overall.kendall_tau),
            _shown(within_bins_tau(report)),
            _shown(report.overall.spearman),
            _shown(report.overall.top_k_regret),
            f"{100 * held[0]:.0f} %" if held else "-",
            f"{seconds:.2g}",
        ]
        lines.append(f"| {name} | " + " | ".join(figures) + " |")
    if noise is not None:
        stds = [noise / len(one) ** 0.5 for one in known.top1_percent]
        lines.append(
            f"| best possible, given the noise | {_shown(best_possible_tau(known.means_percent, stds))} "
            f"| {_shown(_best_within_bins(known, stds))} | - | - | - | - |"
        )
    return "\n".join(lines) + "\n"


def _best_within_bins(known: Truth, stds: Sequence[float]) -> float | None:
    best = []
    for name in dict.fromkeys(known.bins):
        places = [place for place, bin_ in enumerate(known.bins) if bin_ == name]
        tau = best_possible_tau(
            [known.means_percent[place] for place in places], [stds[place] for place in places]
        )
        if tau is not None:
            best.append((len(places) * (len(places) - 1) / 2, tau))
    weight = sum(pairs for pairs, _ in best)
    return sum(pairs * tau for pairs, tau in best) / weight if best else None


def _bin(latency_ms: float) -> str:
    return f"from {max((edge for edge in networks.EDGES_MS if edge <= latency_ms), default=0):g} ms"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("references", nargs="*", default=["published"], help="accuracy estimators")
    parser.add_argument("--protocol", default="cpu")
    arguments = parser.parse_args()
    known = truth(arguments.protocol)
    if len(known.subjects) < 2:
        raise SystemExit(
            f"order needs at least 2 trained networks, got {len(known.subjects)}: "
            "run experiments/ground_truth/run.py first"
        )
    print(judged(known, arguments.references))


if __name__ == "__main__":
    main()
