"""Published latency sets -> transfer tasks: features, known devices, and the device held out.

Which devices count as one: different batch sizes, cores or precisions of one chip are the same device,
so all of its columns are held out together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

SETS = ("vit_blocks", "real_vits", "real_vits_tflite", "nb201", "fbnet", "hat", "ncnn")


@dataclass(frozen=True, slots=True)
class Task:
    """One device held out of one data set."""

    dataset: str
    target: str
    features: pd.DataFrame
    sources: pd.DataFrame
    truth: pd.Series
    macs: str | None
    """The column of `features` that holds the MACs, if any."""
    additive: tuple[str, ...]
    """The columns of `features` whose weighted sum a latency could be: counts and costs."""

    @property
    def name(self) -> str:
        """Names the task in files."""
        return f"{self.dataset}/{self.target}"


def tasks(folder: Path, dataset: str) -> Iterator[Task]:
    """All tasks of one data set; `folder` holds the parquet files."""
    yield from {
        "vit_blocks": _vit_blocks,
        "real_vits": lambda path: _real_vits(path, "torch"),
        "real_vits_tflite": lambda path: _real_vits(path, "tflite"),
        "nb201": _nb201,
        "fbnet": _fbnet,
        "hat": _hat,
        "ncnn": _ncnn,
    }[dataset](folder)


def _vit_blocks(folder: Path) -> Iterator[Task]:
    blocks = pd.read_parquet(folder / "vit_block_lut.parquet").set_index("key")
    shape = blocks[["hw", "cin", "cout", "stride", "ks", "exp", "se", "v_scale", "macs"]].astype(float)
    kinds = pd.get_dummies(blocks["kind"], prefix="kind", dtype=float)
    shape["hard_swish"] = (blocks["act"] == "hard_swish").astype(float)
    shape["activations"] = shape["hw"] ** 2 * (shape["cin"] + shape["cout"])
    features = pd.concat([shape, kinds], axis=1)
    additive = ("macs", "activations", *kinds.columns)
    for target in ("pixel1_ms", "pixel4_ms"):
        sources = blocks[["pixel1_ms", "pixel4_ms"]].drop(columns=target)
        yield Task("vit_blocks", target, features, sources, blocks[target], "macs", additive)


def _real_vits(folder: Path, framework: str) -> Iterator[Task]:
    networks = pd.read_parquet(folder / f"phones_{framework}_vit_real.parquet").set_index("model")
    features = networks[["flops", "size_bytes"]].astype(float)
    columns = [name for name in networks if name.endswith("__ms")]
    name = "real_vits" if framework == "torch" else "real_vits_tflite"
    for target in columns:
        phone, cores, precision, _ = target.split("__")
        if cores not in ("1large", "2large", "4small"):
            continue
        known = [c for c in columns if not c.startswith(phone + "__") and c.split("__")[2] == precision]
        for which, kept in (("all", known), ("1large", [c for c in known if "__1large__" in c])):
            task = f"{phone}__{cores}__{precision}:{which}"
            rows = networks[target].notna()
            yield Task(
                name, task, features[rows], networks.loc[rows, kept], networks.loc[rows, target], "flops",
                ("flops", "size_bytes"),
            )  # fmt: skip


def _nb201(folder: Path) -> Iterator[Task]:
    networks = pd.read_parquet(folder / "nb201_latency.parquet").set_index("arch_index")
    edges = ["e10", "e20", "e21", "e30", "e31", "e32"]
    networks = networks[~(networks[edges].isin([0, 1]).all(axis=1))]  # empty networks
    features = networks[[*edges, "flops_m_cifar10"]].astype(float)
    for op in range(1, 5):
        features[f"count_{op}"] = (networks[edges] == op).sum(axis=1).astype(float)
    columns = [c for c in networks if c.split("_")[0] in ("help", "eagle", "hwnb", "nnmeter")]
    yield from _grid(
        "nb201", networks, features, columns, "flops_m_cifar10",
        ("flops_m_cifar10", *(f"count_{op}" for op in range(1, 5))),
    )  # fmt: skip


def _fbnet(folder: Path) -> Iterator[Task]:
    networks = pd.read_parquet(folder / "fbnet_latency.parquet").set_index("arch_index")
    layers = [f"l{index}" for index in range(22)]
    features = networks[layers].astype(float)
    counts = []
    for op in range(9):
        features[f"count_{op}"] = (networks[layers] == op).sum(axis=1).astype(float)
        counts.append(f"count_{op}")
    columns = [c for c in networks if c.startswith("help_") and c != "help_pixel3"]  # a sum, not measured
    yield from _grid("fbnet", networks, features, columns, None, tuple(counts))


def _grid(
    dataset: str,
    networks: pd.DataFrame,
    features: pd.DataFrame,
    columns: list[str],
    macs: str | None,
    additive: tuple[str, ...],
) -> Iterator[Task]:
    for target in columns:
        rows = networks[target].notna()
        truth = networks.loc[rows, target]
        rows &= networks[target] >= 0.3 * truth.quantile(0.02)
        known = [c for c in columns if _chip(c) != _chip(target)]
        yield Task(
            dataset,
            target,
            features[rows],
            networks.loc[rows, known],
            networks.loc[rows, target],
            macs,
            additive,
        )


def _chip(column: str) -> str:
    parts = column.split("_")
    return "_".join(parts[:-1]) if parts[-1] in ("1", "32", "64", "256") else column


def _hat(folder: Path) -> Iterator[Task]:
    table = pd.read_parquet(folder / "hat_latency.parquet")
    shape = [c for c in table if c.startswith(("encoder_", "decoder_"))]
    for (task, device), rows in table.groupby(["task", "device"]):
        rows = rows.reset_index(drop=True)
        none = pd.DataFrame(index=rows.index)
        yield Task(
            "hat", f"{task}:{device}", rows[shape], none, rows["latency_mean_decoder"], None, tuple(shape)
        )


def _ncnn(folder: Path) -> Iterator[Task]:
    runs = pd.read_parquet(folder / "ncnn_boards_long.parquet")
    runs = runs[runs["min_ms"] > 0]
    runs["device"] = (
        runs["board"].astype(str)
        + ":" + runs["gpu_device"].fillna(-1).astype(int).astype(str)
        + ":" + runs["num_threads"].astype(str)
    )  # fmt: skip
    wide = runs.pivot_table(index="model", columns="device", values="min_ms", aggfunc="median")
    wide = wide.loc[wide.notna().sum(axis=1) >= 30, wide.notna().sum(axis=0) >= 25]
    boards = wide.columns.str.split(":").str[0]
    features = pd.DataFrame(index=wide.index)
    # Every eighth device: the others show the same.
    for target in wide.columns[::8]:
        rows = wide[target].notna()
        known = wide.columns[boards != target.split(":")[0]]
        yield Task(
            "ncnn",
            target.replace("/", "-"),
            features[rows],
            wide.loc[rows, known],
            wide.loc[rows, target],
            None,
            (),
        )


def scores(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """MAPE, shares within 5 and 10 %, and Spearman's rank correlation."""
    from scipy.stats import spearmanr

    error = np.abs(predicted / truth - 1)
    order = float(spearmanr(truth, predicted).statistic) if np.ptp(predicted) > 0 else 0.0
    return {
        "mape": float(100 * error.mean()),
        "within_5": float(100 * (error <= 0.05).mean()),
        "within_10": float(100 * (error <= 0.10).mean()),
        "spearman": order,
    }
