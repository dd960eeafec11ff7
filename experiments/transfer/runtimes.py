"""From the table of one runtime to another on the same machine: 20 networks measured, 60 others predicted.

python experiments/transfer/runtimes.py [--from cpu-x86] [--seeds 10]

The milliseconds measured are in runtimes.json. For each seed 60 of a runtime's networks are drawn to be
predicted; 20 of the others, chosen by choose_samples, are measured. Told is the error of the method
itself and of the table that `hwnas table transfer` would write.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from data import scores

from hwnas.measure.transfer_build import transfer_table
from hwnas.measure.transfer_candidates import compare_networks, draw_candidates
from hwnas.predictors.latency import LatencyTable
from hwnas.predictors.latency.transfer.model import choose_samples, fit_transfer
from hwnas.space import ArchSpec, SearchSpace

MEASURED = Path(__file__).parent / "runtimes.json"
TARGETS = ("cpu-x86-openvino", "cpu-x86-ncnn")
SAMPLES, OTHERS = 20, 60


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="known", nargs="+", default=["cpu-x86"], help="known devices")
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    networks = json.loads(MEASURED.read_text(encoding="utf-8"))["networks"]
    lines = [
        {"target": target, "what": what, **result}
        for target in TARGETS
        for seed in range(arguments.seeds)
        for what, result in evaluate(networks, target, arguments.known, seed).items()
    ]
    means = pd.DataFrame(lines).groupby(["target", "what"], sort=False)
    print(f"known: {', '.join(arguments.known)}; mean over {arguments.seeds} seeds\n")
    print(
        "| target | what | MAPE % | worst seed % | within 5 % | within 10 % | Spearman | in 90 % interval |"
    )
    print("|---" * 8 + "|")
    for (target, what), part in means:
        mean = part.drop(columns=["target", "what"]).mean()
        print(
            f"| {target} | {what} | {mean['mape']:.2f} | {part['mape'].max():.2f} | {mean['within_5']:.1f} | "
            f"{mean['within_10']:.1f} | {mean['spearman']:.3f} | {mean['covered']:.1f} |"
        )


def evaluate(
    networks: list[dict[str, object]], target: str, known: list[str], seed: int
) -> dict[str, dict[str, float]]:
    """Scores of the method and of its table, on 60 networks that were neither measured nor seen."""
    milliseconds = {n["label"]: n["ms"][target] for n in networks if target in n["ms"]}
    archs = {n["label"]: ArchSpec.from_dict(n["arch"]) for n in networks if n["label"] in milliseconds}
    truth = pd.Series(milliseconds)
    tables = [LatencyTable.load(name) for name in known]
    space = SearchSpace.default()
    drawn = draw_candidates(space, tables, seed=seed)
    candidates = compare_networks({**drawn.archs, **archs}, tables)
    others = random.Random(f"{seed}/others").sample(sorted(archs), OTHERS)
    open_to_choice = [label for label in archs if label not in others]
    chosen = choose_samples(
        candidates.features.loc[open_to_choice], candidates.known.loc[open_to_choice], SAMPLES, seed
    )
    predicted = fit_transfer(candidates.features, candidates.known, truth[chosen]).predict(others)
    table = transfer_table(
        candidates,
        truth[chosen].to_dict(),
        name="new",
        profile=LatencyTable.load(target).profile,
        space=space,
        created="",
    )
    estimates = [table.predict(archs[label]) for label in others]
    by_table = pd.DataFrame(
        [{"value": e.value, "low": e.low, "high": e.high} for e in estimates], index=others
    )
    return {
        what: {
            **scores(truth[others].to_numpy(), frame["value"].to_numpy()),
            "covered": 100 * float(np.mean(truth[others].between(frame["low"], frame["high"]))),
        }
        for what, frame in (("fit_transfer", predicted), ("the table", by_table))
    }


if __name__ == "__main__":
    main()
