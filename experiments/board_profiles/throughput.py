"""Published images per second -> latency_tables/: estimated profiles of GPUs and servers, a batch at a time.

As `fit.py` does for boards: milliseconds are non-negative coefficients times features of a network. Judged by
leave-one-family-out over the families that are searched (UniForm, EfficientViT, SHViT).

    python experiments/board_profiles/throughput.py              # writes the tables, prints the results
    python experiments/board_profiles/throughput.py --methods    # every way to fit, device by device
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from published_rows import (
    SEARCHED,
    Source,
    evidence,
    judged,
    known_features,
    out_of_sample,
    read_csv,
    unfused_bytes,
)
from scipy.optimize import nnls

from hwnas.predictors.latency.features import COEFFICIENT_NAMES, FEATURE_NAMES
from hwnas.predictors.latency.heldout import HeldOut, HeldOutNetwork
from hwnas.predictors.latency.profile import DeviceProfile
from hwnas.predictors.latency.table import LatencyTable
from hwnas.predictors.latency.table_content import Coefficients

TABLES = Path(__file__).resolve().parent.parent.parent / "latency_tables"
CREATED = "2026-11-30"

Floats = NDArray[np.float64]

UNSTATED = "the source does not state it"
TORCH = {"runtime": f"PyTorch; {UNSTATED}, its networks are PyTorch's.", "precision": f"fp32; {UNSTATED}."}
TIMM = "timm's benchmark files (pytorch-image-models aa4b5850, results/), AMP, NCHW"


@dataclass(frozen=True, slots=True)
class Device:
    """A device with a publication of its throughput."""

    profile: DeviceProfile
    source: str
    judges: tuple[str, ...] = ()
    """Other rows of throughput.csv for the same hardware, which are not fitted on."""
    notes: tuple[str, ...] = ()
    like: tuple[str, ...] = ()
    """Devices that run the same software: this one may be a multiple of them."""


def _gpu(board: str, version: str, *, compiled: bool = False) -> DeviceProfile:
    return DeviceProfile(
        board=board,
        runtime="torch compiled" if compiled else "torch",
        runtime_version=version,
        provider="cuda",
        batch=1024,
        precision="fp16",
    )


def _paper(board: str, *, provider: str = "cpu", batch: int = 16, onnx: bool = False) -> DeviceProfile:
    return DeviceProfile(
        board=board,
        runtime="onnxruntime" if onnx else "torch",
        provider=provider,
        batch=batch,
        inferred={"runtime": "ONNX Runtime; the source says ONNX only.", "precision": TORCH["precision"]}
        if onnx
        else TORCH,
    )


DEVICES: Mapping[str, Device] = {
    "a100-batch2048": Device(
        _paper("NVIDIA A100", provider="cuda", batch=2048),
        "UniForm (Yeom and Kim), Table 5: images per second",
        ("a100-batch256",),
        (
            "UniForm's and SHViT's figures for an A100 disagree (EfficientViT-M3 34,427 images/s here, the "
            "smaller M2 30,377 there): two devices, `a100-batch2048` and `a100-batch256`.",
        ),
    ),
    "a100-batch256": Device(
        _paper("NVIDIA A100", provider="cuda", batch=256),
        "SHViT (Yun and Ro), Table 2: images per second",
        ("a100-batch2048",),
        ("UniForm's and SHViT's figures for an A100 disagree: see `a100-batch2048`.",),
    ),
    "v100": Device(
        DeviceProfile(
            board="NVIDIA V100",
            runtime="torch",
            runtime_version="1.11.0",
            provider="cuda",
            batch=2048,
            inferred={
                "batch": "the source states the largest power of two that fits in memory; 2048 is a guess.",
                "precision": TORCH["precision"],
            },
        ),
        "EfficientViT (Liu et al.), Table 2: images per second",
        like=("a100-batch256", "a100-batch2048"),
    ),
    "rtx-3090": Device(
        _gpu("NVIDIA RTX 3090", "2.4.0"),
        TIMM,
        ("rtx-3090 nhwc",),
        (
            "These rows ran BatchNorm as kernels of its own (the file's parameter counts include it). "
            "Folded, as in timm's later files, the same networks are 1.28 to 1.42 times as fast on an "
            "RTX 4090.",
        ),
    ),
    "rtx-4090": Device(_gpu("NVIDIA RTX 4090", "2.9.1"), TIMM, ("rtx-4090 pt240",)),
    "rtx-4090-compiled": Device(_gpu("NVIDIA RTX 4090", "2.9.1", compiled=True), TIMM, ("rtx-4090 pt240",)),
    "rtx-5090": Device(_gpu("NVIDIA RTX 5090", "2.9.1"), TIMM),
    "rtx-5090-compiled": Device(_gpu("NVIDIA RTX 5090", "2.9.1", compiled=True), TIMM),
    "iphone12": Device(
        DeviceProfile(
            board="Apple iPhone 12",
            runtime="coreml",
            provider="unknown",
            batch=1,
            precision="fp16",
            inferred={
                "provider": f"{UNSTATED}; Core ML chooses among CPU, GPU and neural engine.",
                "precision": f"fp16, as Core ML's tools export by default; {UNSTATED}.",
            },
        ),
        "SHViT (Yun and Ro), Tables 4 and 5: milliseconds, batch 1",
        (),
        (
            "Eight networks, three of them searched ones: without its family, EfficientViT-M4 at 512 pixels "
            "is predicted at a third of what was published. It says little more than the order of magnitude.",
        ),
    ),
    "xeon-gold-6426y": Device(
        _paper("Intel Xeon Gold 6426Y"), "UniForm (Yeom and Kim), Table 5: images per second"
    ),
    "xeon-5218r": Device(
        _paper("Intel Xeon Gold 5218R"), "SHViT (Yun and Ro), Table 2: images per second", ("xeon-e5-2690v4",)
    ),
    "xeon-5218r-onnx": Device(
        _paper("Intel Xeon Gold 5218R", onnx=True),
        "SHViT (Yun and Ro), Table 2: images per second",
        ("xeon-e5-2690v4-onnx",),
    ),
    "xeon-e5-2690v4": Device(
        _paper("Intel Xeon E5-2690 v4"),
        "EfficientViT (Liu et al.), Table 2: images per second",
        ("xeon-5218r",),
    ),
    "xeon-e5-2690v4-onnx": Device(
        _paper("Intel Xeon E5-2690 v4", onnx=True),
        "EfficientViT (Liu et al.), Table 2: images per second",
        ("xeon-5218r-onnx",),
    ),
}
"""Device name -> what is known of it. All run batches; the servers on one thread."""


@dataclass(frozen=True, slots=True)
class Method:
    """How a device is fitted."""

    columns: tuple[tuple[int, ...], ...]
    """The features that cost something, as positions in COEFFICIENT_NAMES; those of a tuple cost the same."""
    weight: float
    """What a network of a searched family weighs, where others weigh 1; 0: no others are fitted on."""
    like: str = ""
    """Another device: its coefficients, from the same networks, times the median ratio of all both ran."""

    def __str__(self) -> str:
        if self.like:
            return f"the coefficients of {self.like}, times the median ratio of the networks that both ran"
        named = ", ".join(" + ".join(COEFFICIENT_NAMES[at] for at in group) for group in self.columns)
        others = f"searched families weigh {self.weight:g} times" if self.weight else "searched families only"
        return f"{named}; {others}"

    @property
    def unfused(self) -> bool:
        """Whether what ReLU moves by itself costs something: counted for searched families only."""
        return any(len(FEATURE_NAMES) in group for group in self.columns)


_MACS, _MOVED = (0, 1, 2), (3, 6)
METHODS = (
    *(
        Method(tuple((at,) for at in columns), weight)
        for columns in ((0, 1, 2, 3, 4, 5), (0, 1, 3, 4), (0, 3, 5), (0, 3))
        for weight in (0.0, 1.0, 3.0, 10.0)
    ),
    Method((_MACS, _MOVED), 0.0),
    Method((_MACS, _MOVED, (4,)), 0.0),
    Method((_MACS, _MOVED, (4,), (5,)), 0.0),
)
"""Of these the one is taken that errs least on searched families left out; that flatters it a little."""


@dataclass(frozen=True, slots=True)
class Data:
    """The networks of a device whose features are known."""

    models: tuple[str, ...]
    families: NDArray[np.str_]
    features: Floats
    """(networks, 7), of one image; the last is NaN for families that are not searched."""
    ms: Floats
    """(networks,), of one image."""

    @property
    def searched(self) -> NDArray[np.bool_]:
        return np.isin(self.families, SEARCHED)


@dataclass(frozen=True, slots=True)
class Fit:
    """A device's coefficients, for one image, and what they are worth."""

    method: Method
    coefficients: Floats
    in_sample: Floats
    """Of the searched families: predicted / published - 1."""
    one_out_ms: Floats
    family_out_ms: Floats
    """Each searched network predicted by a fit without it; without its family."""


def read_data(name: str) -> Data:
    """The rows of a device in throughput.csv, milliseconds for one image."""
    known = known_features()
    rows = [row for row in read_csv("throughput.csv") if row["device"] == name and row["model"] in known]
    return Data(
        models=tuple(row["model"] for row in rows),
        families=np.array([known[row["model"]][0] for row in rows]),
        features=np.array([[*known[row["model"]][1], unfused_bytes(row["model"])] for row in rows]),
        ms=np.array([1000 / float(row["images_per_s"]) for row in rows]),
    )


def fit(data: Data, method: Method) -> Fit:
    """The fit, and each searched network predicted without it and without its family.

    Where no other searched family is there, its family is predicted from all other networks.
    """
    searched = data.searched
    used = searched | (method.weight > 0)
    solved = _solve(data, used, method)
    one, family = np.full(len(data.ms), np.nan), np.full(len(data.ms), np.nan)
    for at in np.flatnonzero(searched):
        kept = used.copy()
        kept[at] = False
        one[at] = _predicted(data, _solve(data, kept, method))[at]
    for name in dict.fromkeys(data.families[searched].tolist()):
        out = data.families == name
        others = used & ~out
        family[out] = _predicted(data, _solve(data, others if others.any() else ~out, method))[out]
    predicted = _predicted(data, solved)[searched]
    return Fit(method, solved, predicted / data.ms[searched] - 1, one[searched], family[searched])


@cache
def best_fit(name: str) -> Fit:
    """Of the methods the one that errs least on searched families left out.

    Where there is one family only, errors with one network left out count as much.
    """
    data, like = read_data(name), DEVICES[name].like
    published = data.ms[data.searched]
    one_family = len(set(data.families[data.searched].tolist())) == 1

    def error(done: Fit) -> float:
        return _mape(done.family_out_ms, published) + one_family * _mape(done.one_out_ms, published)

    methods = [method for method in METHODS if not (one_family and method.unfused)]
    methods += [Method((), 1.0, like=other) for other in like]
    return min((fit(data, method) for method in methods), key=error)


def _solve(data: Data, kept: NDArray[np.bool_], method: Method) -> Floats:
    """(7,) coefficients by non-negative least squares on weighted relative errors; or a like device's."""
    if method.like:
        return _solve_like(data, kept, method.like)
    weights = np.where(data.searched, method.weight or 1.0, 1.0)[kept]
    summed = np.column_stack([data.features[kept][:, list(group)].sum(axis=1) for group in method.columns])
    rows = summed / data.ms[kept][:, None] * weights[:, None]
    scale = np.linalg.norm(rows, axis=0)
    scale[scale == 0] = 1.0
    solution, _ = nnls(rows / scale, weights)
    solved = np.zeros(len(COEFFICIENT_NAMES))
    for group, value in zip(method.columns, solution / scale, strict=True):
        solved[list(group)] = value
    return solved


def _solve_like(data: Data, kept: NDArray[np.bool_], like: str) -> Floats:
    """(7,) coefficients of another device times a factor; what is left out here is left out there too."""
    other = read_data(like)
    out = set(np.array(data.models)[~kept].tolist())
    gone = set(data.families[~kept].tolist()) - set(data.families[kept].tolist())
    there = np.array([model not in out for model in other.models]) & ~np.isin(other.families, list(gone))
    solved = _solve(other, other.searched & there, best_fit(like).method)
    both = [model for model in np.array(data.models)[kept].tolist() if model in other.models]
    ratios = [data.ms[data.models.index(one)] / other.ms[other.models.index(one)] for one in both]
    return np.asarray(solved * np.median(ratios))


def _predicted(data: Data, coefficients: Floats) -> Floats:
    """(networks,) milliseconds; NaN where a feature that costs something is not counted."""
    costs = coefficients > 0
    return np.asarray(data.features[:, costs] @ coefficients[costs])


def _mape(predicted: Floats, published: Floats) -> float:
    return float(100 * np.mean(np.abs(predicted / published - 1)))


def table_of(name: str) -> LatencyTable:
    """What ships for the device: milliseconds of a run, which holds the whole batch."""
    device = DEVICES[name]
    data = read_data(name)
    done = best_fit(name)
    batch = device.profile.batch
    kept = len(COEFFICIENT_NAMES) if done.coefficients[-1] else len(FEATURE_NAMES)
    coefficients = Coefficients(tuple(float(f"{batch * value:.4g}") for value in done.coefficients[:kept]))
    models = [model for model, inside in zip(data.models, data.searched, strict=True) if inside]
    published = data.ms[data.searched]
    left_out = HeldOut(
        tuple(
            HeldOutNetwork(model, float(f"{batch * ms:.6g}"), float(f"{batch * predicted:.4g}"))
            for model, ms, predicted in zip(models, published, done.family_out_ms, strict=True)
        ),
        method="leave-one-family-out",
    )
    sources = [(source, judged(coefficients, source)) for source in judging_sources(name)]
    heldout = evidence(left_out, [network for _, networks in sources for network in networks])
    families = dict.fromkeys(data.families[data.searched].tolist())
    return LatencyTable(
        name=name,
        profile=device.profile,
        provenance="estimated",
        coefficients=coefficients,
        heldout=heldout,
        measurement={
            "source": device.source,
            "method": (
                f"non-negative least squares on relative errors; {done.method}; chosen of {len(METHODS)} "
                "ways by the error on searched families left out"
            ),
            "command": "python experiments/board_profiles/throughput.py",
            "networks": len(data.models),
            "searched_networks": len(published),
            "in_sample_mape_percent": round(float(100 * np.mean(np.abs(done.in_sample))), 1),
            "leave_one_out_mape_percent": round(_mape(done.one_out_ms, published), 1),
            "leave_one_family_out_mape_percent": round(_mape(done.family_out_ms, published), 1),
            "leave_one_family_out_by_family_mape_percent": {
                family: round(_mape(done.family_out_ms[inside], published[inside]), 1)
                for family in families
                for inside in [data.families[data.searched] == family]
            },
            "out_of_sample": out_of_sample(heldout, sources),
        },
        notes=(
            "Estimated from published figures, never measured here."
            + (
                f" Milliseconds are those of a run of {batch} images; they say nothing of batch 1."
                if batch > 1
                else ""
            )
            + f" The interval is from {heldout.method}.",
            *(
                (f"The searched networks of the source are all of one family, {next(iter(families))}.",)
                if len(families) == 1
                else ()
            ),
            *device.notes,
        ),
        created=CREATED,
    )


def judging_sources(name: str) -> list[Source]:
    """Other publications' searched networks on the same hardware, or on a like one: milliseconds an image."""
    sources = []
    for judge in DEVICES[name].judges:
        other = read_data(judge)
        rows = zip(other.models, other.ms, other.searched, strict=True)
        sources.append(Source(judge, {model: float(ms) for model, ms, searched in rows if searched}))
    return sources


def result_rows() -> Iterator[str]:
    """The result as a Markdown table, a row a device."""
    yield "| device | searched networks | in-sample | one left out | family left out | method |"
    yield "|---|---|---|---|---|---|"
    for name in DEVICES:
        data = read_data(name)
        done = best_fit(name)
        published = data.ms[data.searched]
        yield (
            f"| {name} | {len(published)} | {100 * np.mean(np.abs(done.in_sample)):.1f} % "
            f"| {_mape(done.one_out_ms, published):.1f} % | {_mape(done.family_out_ms, published):.1f} % "
            f"| {done.method} |"
        )


def method_rows() -> Iterator[str]:
    """Error on searched families left out by device and method."""
    yield "| method | " + " | ".join(DEVICES) + " |"
    yield "|---|" + "---|" * len(DEVICES)
    for method in METHODS:
        cells = []
        for name in DEVICES:
            data = read_data(name)
            done = fit(data, method)
            cells.append(f"{_mape(done.family_out_ms, data.ms[data.searched]):.1f}")
        yield f"| {method} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", action="store_true", help="compare ways to fit; writes nothing")
    parser.add_argument("--out", type=Path, default=TABLES, help="folder of the tables")
    arguments = parser.parse_args()
    if arguments.methods:
        print("\n".join(method_rows()))
        return
    for name in DEVICES:
        table_of(name).save(arguments.out / f"{name}.yaml")
    print("\n".join(result_rows()))


if __name__ == "__main__":
    main()
