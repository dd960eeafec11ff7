"""What a search picks with each estimator, trained beside the families' presets within the same budget.

    python experiments/ground_truth/picks.py presets
    python experiments/ground_truth/picks.py search published
    python experiments/ground_truth/picks.py search zero-cost:DATA,side=32,stem=4 --data DATA --trials 200
    python experiments/ground_truth/picks.py search supernet:WORK/supernet --space SPACE --trials 100
    python experiments/ground_truth/picks.py train --data DATA
    python experiments/ground_truth/picks.py report
    python experiments/ground_truth/picks.py told learned:TABLE

Each may be stopped at any time and goes on where it was. Budgets are of predicted latency on cpu-x86; the
networks are trained under the ground truth's protocol, with three seeds, into the same results.jsonl.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import networks
import protocol as training
import table
from work import Job, work

from hwnas.errors import HwnasError
from hwnas.predictors.accuracy import load_accuracy
from hwnas.predictors.latency import LatencyTable
from hwnas.search import resume, search
from hwnas.space import ArchSpec, SearchSpace, lower, preset, preset_info, preset_names

FILE = Path(__file__).with_name("picks.jsonl")
BUDGETS_MS = (2.3, 4.0, 5.6)
"""Of predicted latency on cpu-x86: just above where presets of two and of three families lie."""
SEEDS = (0, 1, 2)
TRIALS = 2000


@dataclasses.dataclass(frozen=True, slots=True)
class Pick:
    """A network that is to be trained, and who wants it."""

    by: str
    """The estimator that the search asked, or 'preset'."""
    budget_ms: float
    name: str
    """The preset's name, or how many networks were evaluated."""
    latency_ms: float
    arch: ArchSpec
    """As searched."""

    def to_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "id": self.arch.id, "arch": self.arch.to_dict()}


def picks(file: Path = FILE) -> tuple[Pick, ...]:
    """The networks picked so far."""
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return tuple(
        Pick(row["by"], row["budget_ms"], row["name"], row["latency_ms"], ArchSpec.from_dict(row["arch"]))
        for row in rows
    )


def best_presets(budget_ms: float, device: LatencyTable) -> Iterator[Pick]:
    """Of each family, the slowest preset within the budget that can be adapted to the images.

    Variants that no published figure belongs to don't count, where the family has figures.
    """
    every = {name: preset_info(name) for name in preset_names()}
    known = {info.family for info in every.values() if info.imagenet_top1_percent is not None}
    by_family: dict[str, Pick] = {}
    for name, info in every.items():
        if info.imagenet_top1_percent is None and info.family in known:
            continue
        arch = preset(name)
        latency_ms = device.predict(arch).value
        try:
            lower(networks.as_trained(arch))
        except HwnasError:
            continue
        best = by_family.get(info.family)
        if latency_ms <= budget_ms and (best is None or latency_ms > best.latency_ms):
            by_family[info.family] = Pick("preset", budget_ms, name, latency_ms, arch)
    yield from by_family.values()


def searched_space(file: Path | None) -> SearchSpace:
    """The default space, or that of a file, for images of 224 pixels and 1,000 classes."""
    default = SearchSpace.default()
    space = default if file is None else SearchSpace.from_yaml(file)
    return dataclasses.replace(
        space, resolution=(224,), stem_stride=default.stem_stride, classes=default.classes
    )


def picked(
    by: str, reference: str, budget_ms: float, space: SearchSpace, trials: int, out: Path, seconds: float
) -> Pick | None:
    """The first network of the search's front; None when time was up before the search's end."""
    started = time.monotonic()

    def stop() -> bool:
        return time.monotonic() - started > seconds

    if (out / "run.yaml").exists():
        result = resume(out, trials=trials, stop=stop)
    else:
        result = search(
            space,
            device="cpu-x86",
            budget_ms=budget_ms,
            accuracy=reference,
            trials=trials,
            out=out,
            stop=stop,
        )
    if not result.is_complete:
        return None
    best = result.front[0]
    return Pick(by, budget_ms, f"{trials} evaluated", best.latency.value, best.arch)


def to_train(
    protocol: str,
    by: Sequence[str] | None = None,
    seeds: Sequence[int] = SEEDS,
    *,
    file: Path = FILE,
    results: Path = table.FILE,
) -> Iterator[Job]:
    """The networks of those who picked (None: of all) once each, the first seed of all before the next.

    Of the presets within a budget only the best one so far, by its mean, is trained with seeds after the
    first: it is what picks are compared with. Another may be the best then; called again, this goes on until
    the best one has them all.
    """
    wanted = {pick.arch.id: pick for pick in picks(file) if by is None or pick.by in by}
    for seed in seeds:
        best = _best_presets_so_far(protocol, file, results) if seed != SEEDS[0] else set()
        for pick in wanted.values():
            if pick.by != "preset" or seed == SEEDS[0] or pick.arch.id in best:
                yield _job(pick, seed)


def _best_presets_so_far(protocol: str, file: Path, results: Path) -> set[str]:
    """Of each budget, the preset with the best mean over the seeds it was trained with."""
    by_id = _accuracies(protocol, results)
    trained = [pick for pick in picks(file) if pick.by == "preset" and pick.arch.id in by_id]
    return {
        max(within, key=lambda pick: statistics.fmean(by_id[pick.arch.id])).arch.id
        for budget_ms in BUDGETS_MS
        if (within := [pick for pick in trained if pick.budget_ms == budget_ms])
    }


def _job(pick: Pick, seed: int) -> Job:
    origin = pick.name if pick.by == "preset" else f"picked by {pick.by} within {pick.budget_ms:g} ms"
    return Job(pick.arch.id, networks.as_trained(pick.arch), seed, None, origin, networks.kind_of(pick.arch))


def _accuracies(protocol: str, results: Path) -> dict[str, list[float]]:
    """By network, the accuracy of each of the seeds that it was trained with."""
    by_id: dict[str, list[float]] = {}
    for row in table.rows(protocol, results):
        if row["seed"] in SEEDS:
            by_id.setdefault(row["id"], []).append(row["top1_percent"])
    return by_id


def report(protocol: str, file: Path = FILE, results: Path = table.FILE) -> str:
    """The picks and presets of each budget with their accuracy, as Markdown."""
    by_id = _accuracies(protocol, results)
    lines = [
        "| budget (ms) | picked by | network | ms (estimated) | top-1 (%) | seeds | over the best preset |"
    ]
    lines.append("|---:|---|---|---:|---:|---:|---:|")
    for budget_ms in BUDGETS_MS:
        within = [pick for pick in picks(file) if pick.budget_ms == budget_ms]
        known = [
            statistics.fmean(by_id[pick.arch.id])
            for pick in within
            if pick.by == "preset" and pick.arch.id in by_id
        ]
        for pick in within:
            found = by_id.get(pick.arch.id, [])
            shown = [f"{budget_ms:g}", pick.by, pick.name, f"{pick.latency_ms:.2f}"]
            if found:
                mean = statistics.fmean(found)
                spread = f" ± {statistics.stdev(found):.2f}" if len(found) > 1 else ""
                shown += [f"{mean:.2f}{spread}", str(len(found))]
                shown.append(f"{mean - max(known):+.2f}" if known and pick.by != "preset" else "-")
            else:
                shown += ["-", "0", "-"]
            lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def told(reference: str, protocol: str, file: Path = FILE, results: Path = table.FILE) -> str:
    """What an estimator says of each network that was picked and trained, as Markdown."""
    estimator = load_accuracy(reference)
    by_id = _accuracies(protocol, results)
    lines = ["| budget (ms) | picked by | told (%) | found (%) |", "|---:|---|---:|---:|"]
    for pick in picks(file):
        if pick.arch.id in by_id:
            estimate, found = estimator.predict(pick.arch), statistics.fmean(by_id[pick.arch.id])
            name = pick.name if pick.by == "preset" else pick.by
            lines.append(
                f"| {pick.budget_ms:g} | {name} | {estimate.value:.2f} ± {estimate.std:.2f} | {found:.2f} |"
            )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("step", choices=("presets", "search", "train", "report", "told"))
    parser.add_argument(
        "estimator", nargs="?", default="published", help="DATA and WORK stand for the options"
    )
    parser.add_argument("--budget", type=float, choices=BUDGETS_MS, help="one of them; without, all three")
    parser.add_argument("--trials", type=int, default=TRIALS, help="networks that a search evaluates")
    parser.add_argument("--space", type=Path, help="search this file's space instead of the default one")
    parser.add_argument("--data", default="", help="CIFAR-10 as JPEG files: a folder or a tar")
    parser.add_argument("--protocol", choices=training.PROTOCOLS, default="cpu")
    parser.add_argument("--by", nargs="+", help="train only what these picked: 'preset', or estimators")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="train with these seeds")
    parser.add_argument(
        "--seconds", type=float, default=1e9, help="stop a search, or training, after so many"
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "hwnas-ground-truth",
        help="where searches and the training that is going on are kept",
    )
    asked = parser.parse_args(arguments)
    asked.work.mkdir(parents=True, exist_ok=True)
    budgets = BUDGETS_MS if asked.budget is None else (asked.budget,)
    if asked.step == "report":
        print(report(asked.protocol))
    elif asked.step == "told":
        print(told(asked.estimator.replace("DATA", asked.data), asked.protocol))
    elif asked.step == "train":
        _train(asked)
    else:
        known = {(pick.by, pick.budget_ms) for pick in picks()}
        for budget_ms in budgets:
            if asked.step == "presets":
                found: list[Pick | None] = (
                    []
                    if ("preset", budget_ms) in known
                    else list(best_presets(budget_ms, LatencyTable.load("cpu-x86")))
                )
            else:
                found = [] if (asked.estimator, budget_ms) in known else [_search(asked, budget_ms)]
            for pick in found:
                if pick is not None:
                    table.append(pick.to_dict(), FILE)


def _search(asked: argparse.Namespace, budget_ms: float) -> Pick | None:
    reference = asked.estimator.replace("DATA", asked.data).replace("WORK", str(asked.work))
    folder = "".join(letter if letter.isalnum() else "-" for letter in asked.estimator)
    out = asked.work / "picks" / f"{folder}-{budget_ms:g}"
    space = searched_space(asked.space)
    return picked(asked.estimator, reference, budget_ms, space, asked.trials, out, asked.seconds)


def _train(asked: argparse.Namespace) -> None:
    protocol = training.PROTOCOLS[asked.protocol]
    started = time.monotonic()
    work(
        to_train(protocol.name, asked.by, asked.seeds),
        training.read_data(Path(asked.data), protocol),
        protocol,
        folder=asked.work,
        file=table.FILE,
        enough=lambda: time.monotonic() - started > asked.seconds,
    )


if __name__ == "__main__":
    main()
