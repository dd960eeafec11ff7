"""Says what run.py gave: training curve, order by epoch against the ground truth, trained on against alone.

    python experiments/supernet/report.py

Writes results.json and results.md, or others with `--name`. The ground truth grows; run it again when it has.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "ground_truth"))

import networks
import table

from hwnas.metrics import kendall_tau, spearman
from hwnas.space import ArchSpec, count_macs, count_params, lower
from hwnas.supernet.checkpoint import load

FOLDER = Path(__file__).parent
FEWEST = 8
"""Trained networks below which an order says nothing."""


def collected(work: Path) -> dict[str, Any]:
    """What run.py left in its folder, in one document."""
    saved = load(work / "supernet")
    started = sorted(work.glob("started-*.json"))
    return {
        "settings": saved.recipe.to_dict(),
        "parameters": sum(tensor.numel() for tensor in saved.state_dict.values()),
        "history": [asdict(record) for record in saved.history],
        "estimates": json.loads((work / "estimates.json").read_text()),
        "training_images": [json.loads(file.read_text()) for file in started],
    }


def truths(ids: Sequence[str]) -> dict[str, float]:
    """Accuracy by network, of those that the ground truth has trained: the mean over seeds, in percent."""
    by_id: dict[str, list[float]] = {}
    for row in table.rows("cpu"):
        if row["id"] in ids:
            by_id.setdefault(row["id"], []).append(row["top1_percent"])
    return {id_: sum(values) / len(values) for id_, values in by_id.items()}


def order(truth: dict[str, float], estimate: Callable[[str], float], groups: dict[str, str]) -> list[str]:
    """Kendall's tau, Spearman, and tau within the groups (of one latency bin each), as a table's cells."""
    ids = list(truth)
    if len(ids) < FEWEST:
        return ["-"] * 3
    actual, estimated = [truth[id_] for id_ in ids], [estimate(id_) for id_ in ids]
    agreeing, pairs = 0.0, 0
    for group in dict.fromkeys(groups[id_] for id_ in ids):
        places = [place for place, id_ in enumerate(ids) if groups[id_] == group]
        tau = kendall_tau([actual[place] for place in places], [estimated[place] for place in places])
        if tau is not None:
            count = len(places) * (len(places) - 1) // 2
            agreeing, pairs = agreeing + tau * count, pairs + count
    within = f"{agreeing / pairs:.2f} ({pairs} pairs)" if pairs else "-"
    return [*(_shown(of(actual, estimated)) for of in (kendall_tau, spearman)), within]


def written(document: dict[str, Any]) -> str:
    """results.md."""
    epochs = document["estimates"]
    ids = list(next(iter(epochs.values())))
    truth = truths(ids)
    subjects = {one.arch.id: one for one in networks.subjects()}
    bins = {id_: str(sum(edge <= subjects[id_].latency_ms for edge in networks.EDGES_MS)) for id_ in ids}
    archs: dict[str, ArchSpec] = {id_: subjects[id_].trained for id_ in ids}
    rng = random.Random(0)
    lines = [
        f"{document['parameters'] / 1e6:.1f} M shared parameters. {len(truth)} of the {len(ids)} networks "
        f"asked about have been trained alone; order is told from {FEWEST} on.",
        "",
        "Order by the share of held-back images that is right, and by the loss on them:",
        "",
        "| epoch | loss | largest, % | smallest, % | tau | Spearman | tau within bins | by loss: tau "
        "| Spearman | tau within bins | s (wall) |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for record in document["history"]:
        answers = epochs.get(str(record["epoch"]))
        cells = ["-"] * 6
        if answers is not None:
            cells = [
                *order(truth, lambda id_, answers=answers: answers[id_]["top1_percent"], bins),
                *order(truth, lambda id_, answers=answers: -answers[id_]["loss"], bins),
            ]
        spans = [
            f"{min(record[name].values()):.1f} to {max(record[name].values()):.1f}"
            for name in ("largest_percent", "smallest_percent")
        ]
        lines.append(
            f"| {record['epoch']} | {record['loss']:.3f} | {' | '.join([*spans, *cells])} "
            f"| {record['seconds']:.0f} |"
        )
    lines += ["", "| beside it | tau | Spearman | tau within bins |", "|---|---:|---:|---:|"]
    for name, estimate in (
        ("parameters", lambda id_: float(count_params(lower(archs[id_])))),
        ("MACs", lambda id_: float(count_macs(lower(archs[id_])))),
        ("random", lambda id_: rng.random()),
    ):
        lines.append(f"| {name} | {' | '.join(order(truth, estimate, bins))} |")
    seconds = sorted(one["seconds"] for one in epochs[max(epochs, key=int)].values())
    lines += [
        "",
        f"Wall clock a network: {seconds[len(seconds) // 2]:.1f} s (median), {seconds[-1]:.1f} s at most, on "
        "a core that other programs had, too.",
    ]
    lines += ["", *_answers(epochs, truth, subjects, archs)]
    for outcome in document["training_images"]:
        lines += ["", *_trained_on(outcome)]
    return "\n".join(lines) + "\n"


def _answers(
    epochs: dict[str, Any],
    truth: dict[str, float],
    subjects: dict[str, networks.Subject],
    archs: dict[str, ArchSpec],
) -> list[str]:
    """Each network by epoch, beside what it came to alone."""
    lines = [
        "| network | MMACs | "
        + " | ".join(f"epoch {epoch}, %" for epoch in epochs)
        + " | trained alone, % |",
        "|---|---:|" + "---:|" * (len(epochs) + 1),
    ]
    for id_, arch in archs.items():
        answers = " | ".join(f"{answers[id_]['top1_percent']:.1f}" for answers in epochs.values())
        alone = f"{truth[id_]:.2f}" if id_ in truth else "-"
        macs = count_macs(lower(arch)) / 1e6
        lines.append(
            f"| {subjects[id_].number} ({subjects[id_].origin}) | {macs:.0f} | {answers} | {alone} |"
        )
    return lines


def _trained_on(outcome: dict[str, Any]) -> list[str]:
    """One network by epoch, from its slices and from scratch."""
    alone = [row for row in table.rows("cpu") if row["id"] == outcome["id"]]
    header = " | ".join(f"epoch {number + 1}" for number in range(len(outcome["top1_by_epoch_percent"])))
    lines = [
        f"| network {outcome['number']} ({outcome['id']}), top-1 % | {header} |",
        "|---|" + "---:|" * len(outcome["top1_by_epoch_percent"]),
    ]
    for name, percents in (
        (f"from the supernet after epoch {outcome['supernet_epochs']}", outcome["top1_by_epoch_percent"]),
        *((f"from scratch, seed {row['seed']}", row["top1_by_epoch_percent"]) for row in alone),
    ):
        lines.append(f"| {name} | {' | '.join(f'{percent:.2f}' for percent in percents)} |")
    return lines


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "hwnas-supernet")
    parser.add_argument("--name", default="results", help="of the two files")
    arguments = parser.parse_args()
    results = FOLDER / f"{arguments.name}.json"
    if arguments.work.exists():
        results.write_text(json.dumps(collected(arguments.work), indent=1) + "\n")
    text = written(json.loads(results.read_text()))
    results.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
