"""How well a few measurements tell a device from known ones: each published device held out in turn.

python experiments/transfer/run.py --data FOLDER [--sets vit_blocks nb201] [--seconds 200]
    [--methods transfer baselines] [--seeds 10] [--every 1]

Resumes: what results.csv holds is not computed again. Prints the tables of README.md.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from baselines import Baselines
from data import SETS, Task, scores, tasks

from hwnas.predictors.latency.transfer.model import choose_samples, fit_transfer

HERE = Path(__file__).parent
RESULTS = HERE / "results.csv"
COUNTS = (10, 20, 50)
KEYS = ["dataset", "target", "n"]
MEASURES = ["mape", "within_5", "within_10", "spearman", "covered", "half_width", "fit_s"]
GROUPS = {
    "transfer": ("transfer",),
    "random": ("transfer, random rows",),
    "baselines": ("macs", "additive", "best_single", "ridge", "gp", "forest", "blend"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the parquet files")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--methods", nargs="+", choices=list(GROUPS), default=list(GROUPS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--every", type=int, default=1, help="hold out every so-many-th device only")
    parser.add_argument("--first", type=int, default=0, help="the first device to hold out")
    parser.add_argument(
        "--seconds", type=float, default=np.inf, help="stop after so long; run again to go on"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()

    deadline = time.monotonic() + arguments.seconds
    done = _done(arguments.out)
    left = 0
    for dataset in arguments.sets:
        for task in itertools.islice(tasks(arguments.data, dataset), arguments.first, None, arguments.every):
            chosen = Choice(task)
            for n, group in itertools.product(COUNTS, arguments.methods):
                if n + 8 > len(task.truth) or (dataset, task.target, n, group) in done:
                    continue
                if time.monotonic() > deadline:
                    left += 1
                    continue
                lines = evaluate(task, chosen, n, group, arguments.seeds)
                lines.to_csv(arguments.out, mode="a", header=not arguments.out.exists(), index=False)
    print(f"{left} of the asked-for cells are left" if left else "complete")
    if arguments.out.exists():
        results = pd.read_csv(arguments.out)
        print(table(results))
        print(summary(results))


class Choice:
    """The rows of a task that choose_samples takes, by seed; a shorter choice begins a longer one."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._most = max(n for n in COUNTS if n + 8 <= len(task.truth) or n == min(COUNTS))
        self._rows: dict[int, np.ndarray] = {}

    def rows(self, n: int, seed: int) -> np.ndarray:
        """Positions (n,)."""
        if seed not in self._rows:
            labels = choose_samples(self._task.features, self._task.sources, self._most, seed)
            self._rows[seed] = self._task.truth.index.get_indexer(labels)
        return self._rows[seed][:n]


def evaluate(task: Task, choice: Choice, n: int, group: str, seeds: int) -> pd.DataFrame:
    """One line a method of the group: the mean over seeds; those that choose the same rows count alike."""
    baselines = Baselines(task) if group == "baselines" else None
    seen: dict[tuple[int, ...], list[dict[str, object]]] = {}
    lines: list[dict[str, object]] = []
    for seed in range(seeds):
        rows = choice.rows(n, seed)
        if group == "random":
            rows = np.random.default_rng(seed).choice(len(task.truth), n, replace=False)
        key = tuple(sorted(rows.tolist()))
        if key not in seen:
            seen[key] = (
                [{"method": GROUPS[group][0], **_transfer(task, rows)}]
                if baselines is None
                else _baselines(task, baselines, rows)
            )
        lines += seen[key]
    means = pd.DataFrame(lines).groupby("method", sort=False).mean().round(4).reset_index()
    means.insert(0, "seeds", seeds)
    for at, (name, value) in enumerate(zip(KEYS, (task.dataset, task.target, n), strict=True)):
        means.insert(at, name, value)
    return means.reindex(columns=[*KEYS, "seeds", "method", *MEASURES])


def _baselines(task: Task, baselines: Baselines, rows: np.ndarray) -> list[dict[str, object]]:
    others = _others(task, rows)
    predicted = {name: baselines.predict(name, rows) for name in baselines.names}
    return [
        {"method": name, **scores(baselines.truth[others], values[others])}
        for name, values in predicted.items()
        if values is not None
    ]


def _transfer(task: Task, rows: np.ndarray) -> dict[str, float]:
    began = time.perf_counter()
    model = fit_transfer(task.features, task.sources, task.truth.iloc[rows])
    seconds = time.perf_counter() - began
    others = _others(task, rows)
    truth = task.truth.to_numpy(float)[others]
    predicted = model.predict(task.truth.index[others])
    held = (truth >= predicted["low"].to_numpy()) & (truth <= predicted["high"].to_numpy())
    width = np.log(predicted["high"] / predicted["low"]).median()
    return {
        **scores(truth, predicted["value"].to_numpy()),
        "covered": float(100 * held.mean()),
        "half_width": float(100 * width / 2),
        "fit_s": seconds,
    }


def _others(task: Task, rows: np.ndarray) -> np.ndarray:
    kept = np.ones(len(task.truth), dtype=bool)
    kept[rows] = False
    return np.flatnonzero(kept)


def _done(path: Path) -> set[tuple[str, str, int, str]]:
    if not path.exists():
        return set()
    lines = pd.read_csv(path)[[*KEYS, "method"]].itertuples(index=False)
    of = {method: group for group, methods in GROUPS.items() for method in methods}
    return {(line.dataset, line.target, line.n, of[line.method]) for line in lines}


def table(results: pd.DataFrame) -> str:
    """Means over devices, as Markdown."""
    columns = ["mape", "within_5", "within_10", "spearman", "covered", "half_width"]
    text = []
    for (dataset, n), part in results.groupby(["dataset", "n"], sort=False):
        text.append(
            f"\n{dataset}, N = {n}, {part['target'].nunique()} targets, {_range(part['seeds'])} seeds\n"
        )
        text.append("| method | MAPE % | within 5 % | within 10 % | Spearman | covered % | ± % |")
        text.append("|---" * 7 + "|")
        for method, means in part.groupby("method", sort=False)[columns].mean().iterrows():
            cells = (
                f"{means[c]:.{3 if c == 'spearman' else 1}f}" if means[c] == means[c] else "" for c in columns
            )
            text.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(text)


def _range(counts: pd.Series) -> str:
    return "-".join(str(count) for count in sorted({counts.min(), counts.max()})) if len(counts) else ""


def summary(results: pd.DataFrame) -> str:
    """A line a set and N: each method's MAPE, and what else is told of transfer; the table of README.md."""
    methods = [
        "transfer", "transfer, random rows", "blend", "ridge", "gp", "forest", "best_single", "additive",
        "macs",
    ]  # fmt: skip
    methods = [method for method in methods if (results["method"] == method).any()]
    told = ["within_5", "within_10", "spearman", "covered"]
    text = ["", "| set | devices | seeds | N | " + " | ".join([*methods, *told]) + " |"]
    text.append("|---" * (4 + len(methods) + len(told)) + "|")
    for (dataset, n), part in results.groupby(["dataset", "n"]):
        means = part.groupby("method")[["mape", *told]].mean()
        cells = [f"{means['mape'].get(method, np.nan):.2f}".replace("nan", "") for method in methods]
        if "transfer" not in means.index:
            continue
        own = means.loc["transfer"]
        cells += [f"{own[c]:.3f}" if c == "spearman" else f"{own[c]:.1f}" for c in told]
        ours, compared = part[part["method"] == "transfer"], part[part["method"] == "blend"]
        if len(compared) < len(ours):
            both = ours[ours["target"].isin(compared["target"])]
            cells[0] += f" ({both['mape'].mean():.2f})"
        devices = " / ".join(str(count) for count in dict.fromkeys((len(ours), len(compared))))
        seeds = " / ".join(dict.fromkeys((_range(ours["seeds"]), _range(compared["seeds"]))))
        text.append(f"| {dataset} | {devices} | {seeds} | {n} | " + " | ".join(cells) + " |")
    return "\n".join(text)


if __name__ == "__main__":
    main()
