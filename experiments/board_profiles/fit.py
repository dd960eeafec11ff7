"""UniForm's Table 6 -> latency_tables/<board>.yaml: estimated profiles of ten boards nobody here has.

Each board's milliseconds are six non-negative coefficients on a network's features, fitted on the
published figures with relative errors. Judged by leave-one-family-out: every network predicted by a
fit that has not seen its family. Needs numpy, scipy and hwnas; the features of the comparison
networks are in networks.csv (compute_features.py), those of UniForm come from `lower`.

    python experiments/board_profiles/fit.py              # writes the tables, prints the results
    python experiments/board_profiles/fit.py --variants   # compares ways to fit, writes nothing
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from published_rows import evidence, judged, other_sources, out_of_sample
from scipy.optimize import nnls

from hwnas.predictors.latency.features import FEATURE_NAMES, features
from hwnas.predictors.latency.heldout import HeldOut, HeldOutNetwork
from hwnas.predictors.latency.profile import DeviceProfile
from hwnas.predictors.latency.table import LatencyTable
from hwnas.predictors.latency.table_content import Coefficients
from hwnas.space.ops import lower
from hwnas.space.presets import preset

HERE = Path(__file__).resolve().parent
TABLES = HERE.parent.parent / "latency_tables"
CREATED = "2026-11-21"

Floats = NDArray[np.float64]

BOARDS: Mapping[str, tuple[str, str, str]] = {
    "rpi2b": ("raspberry_pi_2b", "Raspberry Pi 2B", "cpu"),
    "rpi3b": ("raspberry_pi_3b", "Raspberry Pi 3B", "cpu"),
    "rpi3b-plus": ("raspberry_pi_3b_plus", "Raspberry Pi 3B+", "cpu"),
    "rpi4": ("raspberry_pi_4b", "Raspberry Pi 4B", "cpu"),
    "rpi5": ("raspberry_pi_5", "Raspberry Pi 5", "cpu"),
    "jetson-nano": ("jetson_nano", "NVIDIA Jetson Nano", "unknown"),
    "jetson-tx2": ("jetson_tx2", "NVIDIA Jetson TX2", "unknown"),
    "jetson-nx": ("jetson_nx", "NVIDIA Jetson NX", "unknown"),
    "jetson-xavier": ("jetson_xavier", "NVIDIA Jetson Xavier", "unknown"),
    "jetson-agx-orin": ("jetson_agx_orin", "NVIDIA Jetson AGX Orin", "unknown"),
}
"""Device name -> column of published.csv, the board in words, what computes (the paper says none)."""

UNIFORM = {f"UniForm-{size}": f"uniform-{size}" for size in "tsml"}
"""Table 6's name -> preset."""

LEFT_OUT: Mapping[str, str] = {
    "EfficientViT": (
        "EfficientViT-M0 to M4 are left out: on every Pi the published figures are 10 to 14 times what "
        "these coefficients give, on the Jetsons 1.4 to 4.3 times, although EfficientViT-M0 and UniForm-t "
        "run nearly the same ops (79 and 74M MACs) and ONNX Runtime on x86 takes 2.6 and 2.0 ms for "
        "them. Those rows describe some other software stack."
    ),
    "Mixer": "Mixer-B/16 and L/16 are left out: 60 and 208M parameters, far from any network searched here.",
    "ViG": (
        "ViG-Ti is left out: neither timm nor torchvision has it, and the neighbours it looks up while "
        "it runs have no place among the six features."
    ),
}

FARM = (
    "Table 6's ten boards are, name for name, those of the device farm of the authors' company, Nota "
    "(NetsPresso; github.com/Nota-NetsPresso/netspresso-trainer, docs/benchmarks/device_matrix)"
)
ONE_IMAGE = (
    "the paper states batch 16, but its figures are consistent with one image: 19.4 ms for 16 images of "
    "UniForm-t is beyond a Pi 4's arithmetic"
)
INFERRED: Mapping[str, Mapping[str, str]] = {
    "rpi": {
        "runtime": f"{FARM}, where Pis run ONNX or TFLite. The paper names none.",
        "threads": (
            "all four cores. The paper states one thread, but Mixer-B/16, 12.6 GMACs of plain matrix "
            "products, takes 321.1 ms on the Pi 5: 39.3 GMAC/s, where one Cortex-A76 at 2.4 GHz reaches at "
            "most 19.2 in fp32 (and 38.4 in fp16)."
        ),
        "batch": f"{ONE_IMAGE}.",
        "precision": "the paper names none; fp32 is what the farm's ONNX models have.",
    },
    "jetson": {
        "runtime": (
            f"{FARM}, where Jetsons run ONNX or TensorRT (JetPack 4.4 to 5.0). The paper names none."
        ),
        "provider": "the GPU, since that is what the farm's Jetsons run on. The paper says none.",
        "threads": "the paper states one thread; on a GPU it says little.",
        "batch": f"{ONE_IMAGE}.",
        "precision": (
            "MobileNetV3's rows are 1.1 to 2.1 times that farm's own published TensorRT FP16 figures, as "
            "fp32 would be. The paper names none."
        ),
    },
}
"""What Table 6 does not state, or states against its own figures, and what the values are inferred from."""

WIDENED = (
    "Other publications' figures for this board (for a 2B and a 3B: for a 3B+) lie outside the interval that "
    "the families left out give, far more often than in one case of ten: it was widened to hold them."
)
ABSTRACT = (
    "The paper's abstract gives 21.8 ms for UniForm-l on the AGX Orin, where Table 6 has 2.4; 21.8 is "
    "Table 6's Raspberry Pi 5. Table 6 is followed."
)
ODDITIES: Mapping[str, tuple[str, ...]] = {
    "rpi5": (ABSTRACT,),
    "jetson-agx-orin": (ABSTRACT,),
    "jetson-nano": (
        "The Nano's published figures contradict one another: MobileViT-XXS takes twice as long as "
        "MobileViT-XS, and RepVGG-B0 six times as long as RepVGG-A2. No fit can follow both: hence the "
        "wide interval.",
    ),
}
"""What a reader of one board's table must know besides."""


@dataclass(frozen=True, slots=True)
class Method:
    """How a board is fitted."""

    uniform_weight: float = 3.0
    """Weight of the UniForm rows: they are the only ones of the design that hwnas searches."""
    tie: float = 1.0
    """Pull of the cost of a MAC in a dense convolution towards that in a 1x1 convolution, in relative
    error for as many MACs as the median network has. Without it nothing but RepVGG says what a 3x3
    convolution costs."""
    offset: bool = False
    """Whether a network also takes a constant time."""


@dataclass(frozen=True, slots=True)
class Data:
    """The rows that are fitted on."""

    models: tuple[str, ...]
    families: NDArray[np.str_]
    features: Floats
    """(networks, 6), in the order of FEATURE_NAMES."""
    latency_ms: Mapping[str, Floats]
    """Device name -> (networks,)."""

    @property
    def family_names(self) -> tuple[str, ...]:
        """Each family once, in the order of the rows."""
        return tuple(dict.fromkeys(self.families.tolist()))


@dataclass(frozen=True, slots=True)
class Fit:
    """A board's coefficients and what they are worth."""

    coefficients: Floats
    """(6,) milliseconds per unit of each feature."""
    offset_ms: float
    in_sample: Floats
    """predicted / published - 1, (networks,)."""
    held_out_ms: Floats
    """Each network predicted by a fit without its family, (networks,)."""
    held_out: Floats
    """The same over published, less 1."""
    one_out: Floats
    """predicted / published - 1, each network predicted by a fit without it, (networks,)."""


def read_data() -> Data:
    """The published figures beside the features of the networks they are of."""
    rows = {row["model"]: row for row in _table("published.csv")}
    compared = _table("networks.csv")
    models = [row["model"] for row in compared] + list(UNIFORM)
    values = [[float(row[name]) for name in FEATURE_NAMES] for row in compared]
    for name in UNIFORM.values():
        found = features(lower(preset(name)))
        values.append([found[feature] for feature in FEATURE_NAMES])
    return Data(
        models=tuple(models),
        families=np.array([row["family"] for row in compared] + ["UniForm"] * len(UNIFORM)),
        features=np.array(values),
        latency_ms={
            device: np.array([float(rows[model][column]) for model in models])
            for device, (column, _, _) in BOARDS.items()
        },
    )


def fit(data: Data, device: str, method: Method) -> Fit:
    """The coefficients of one board, and each family predicted without itself."""
    published = data.latency_ms[device]
    weights = np.where(data.families == "UniForm", method.uniform_weight, 1.0)
    columns = data.features
    if method.offset:
        columns = np.column_stack([columns, np.ones(len(columns))])
    solved = _solve(columns, published, weights, method.tie)
    held_out = np.empty(len(published))
    for family in data.family_names:
        out = data.families == family
        held_out[out] = columns[out] @ _solve(columns[~out], published[~out], weights[~out], method.tie)
    one_out = np.empty(len(published))
    for at in range(len(published)):
        kept = np.arange(len(published)) != at
        one_out[at] = columns[at] @ _solve(columns[kept], published[kept], weights[kept], method.tie)
    return Fit(
        coefficients=solved[: len(FEATURE_NAMES)],
        offset_ms=float(solved[-1]) if method.offset else 0.0,
        in_sample=columns @ solved / published - 1,
        held_out_ms=held_out,
        held_out=held_out / published - 1,
        one_out=one_out / published - 1,
    )


def _solve(columns: Floats, published: Floats, weights: Floats, tie: float) -> Floats:
    """Non-negative least squares on weighted relative errors, dense MACs tied to 1x1 MACs."""
    relative = columns / published[:, None]
    tied = np.zeros(columns.shape[1])
    tied[0], tied[1] = tie * np.median(relative[:, 0]), -tie * np.median(relative[:, 0])
    rows = np.vstack([relative * weights[:, None], tied])
    scale = np.linalg.norm(rows, axis=0)
    scale[scale == 0] = 1.0
    solution, _ = nnls(rows / scale, np.append(weights, 0.0))
    solved: Floats = solution / scale
    return solved


def table_of(device: str, data: Data, method: Method) -> LatencyTable:
    """What ships for the board."""
    fitted = fit(data, device, method)
    published = data.latency_ms[device]
    uniform = data.families == "UniForm"
    coefficients = Coefficients(
        tuple(float(f"{value:.4g}") for value in fitted.coefficients), offset_ms=fitted.offset_ms
    )
    left_out = HeldOut(
        networks=tuple(
            HeldOutNetwork(model, float(value), float(f"{predicted:.4g}"))
            for model, value, predicted in zip(data.models, published, fitted.held_out_ms, strict=True)
        ),
        method="leave-one-family-out",
    )
    sources = [(source, judged(coefficients, source)) for source in other_sources(device)]
    others = [network for _, networks in sources for network in networks]
    heldout = evidence(left_out, others)
    return LatencyTable(
        name=device,
        profile=DeviceProfile(
            board=BOARDS[device][1],
            runtime="unknown",
            provider=BOARDS[device][2],
            threads=4 if device.startswith("rpi") else 1,
            batch=1,
            inferred=INFERRED["rpi" if device.startswith("rpi") else "jetson"],
        ),
        provenance="estimated",
        coefficients=coefficients,
        heldout=heldout,
        measurement={
            "source": "UniForm (Yeom and Kim), Table 6: published whole-network latencies",
            "method": (
                "non-negative least squares on relative errors; UniForm rows weigh "
                f"{method.uniform_weight:g} times; a MAC of a dense convolution is pulled towards the cost "
                f"of a 1x1 one (tie {method.tie:g}); both chosen by the leave-one-family-out error"
            ),
            "command": "python experiments/board_profiles/fit.py",
            "networks": len(data.models),
            "in_sample_mape_percent": _percent(fitted.in_sample),
            "in_sample_uniform_mape_percent": _percent(fitted.in_sample[uniform]),
            "leave_one_out_mape_percent": _percent(fitted.one_out),
            "leave_one_family_out_mape_percent": _percent(fitted.held_out),
            "leave_one_family_out_median_percent": round(float(100 * np.median(np.abs(fitted.held_out))), 1),
            "leave_one_family_out_by_family_mape_percent": {
                family: _percent(fitted.held_out[data.families == family]) for family in data.family_names
            },
            "out_of_sample": out_of_sample(heldout, sources),
        },
        notes=(
            f"Estimated from published figures, never measured here. The interval is from {heldout.method}.",
            *((WIDENED,) if heldout is not left_out else ()),
            *LEFT_OUT.values(),
            "Runtime, threads, batch and precision are unknown and only inferred: see profile.inferred.",
            *ODDITIES.get(device, ()),
        ),
        created=CREATED,
    )


def result_rows(data: Data, method: Method) -> Iterator[str]:
    """The result as a Markdown table, a row a board."""
    yield "| board | in-sample MAPE | its UniForm rows | family left out: median | MAPE | UniForm left out |"
    yield "|---|---|---|---|---|---|"
    uniform = data.families == "UniForm"
    for device in BOARDS:
        done = fit(data, device, method)
        cells = [
            f"{_percent(done.in_sample)} %",
            f"{_percent(done.in_sample[uniform])} %",
            f"{100 * np.median(np.abs(done.held_out)):.1f} %",
            f"{_percent(done.held_out)} %",
            f"{_percent(done.held_out[uniform])} %",
        ]
        yield f"| {device} | " + " | ".join(cells) + " |"


def variant_rows(data: Data) -> Iterator[str]:
    """Ways to fit, side by side, averaged over the Pis and over the Jetsons."""
    variants = {
        "plain": Method(uniform_weight=1, tie=0),
        "with an offset": Method(uniform_weight=1, tie=0, offset=True),
        "tie 1": Method(uniform_weight=1),
        "UniForm 3": Method(tie=0),
        "UniForm 2, tie 1": Method(uniform_weight=2),
        "UniForm 3, tie 1 (shipped)": Method(),
        "UniForm 3, tie 1, offset": Method(offset=True),
        "UniForm 5, tie 1": Method(uniform_weight=5),
        "UniForm 3, tie 0.3": Method(tie=0.3),
        "UniForm 3, tie 3": Method(tie=3),
    }
    yield "| fit | Pis: in-sample | median | MAPE | UniForm | Jetsons: in-sample | median | MAPE | UniForm |"
    yield "|---|---|---|---|---|---|---|---|---|"
    uniform = data.families == "UniForm"
    for label, method in variants.items():
        cells = []
        for group in ("rpi", "jetson"):
            fits = [fit(data, device, method) for device in BOARDS if device.startswith(group)]
            cells += [
                f"{np.mean([_percent(one.in_sample) for one in fits]):.1f} %",
                f"{np.mean([100 * np.median(np.abs(one.held_out)) for one in fits]):.1f} %",
                f"{np.mean([_percent(one.held_out) for one in fits]):.1f} %",
                f"{np.mean([_percent(one.held_out[uniform]) for one in fits]):.1f} %",
            ]
        yield f"| {label} | " + " | ".join(cells) + " |"


def _percent(relative: Floats) -> float:
    return round(float(100 * np.mean(np.abs(relative))), 1)


def _table(name: str) -> list[dict[str, Any]]:
    with (HERE / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variants", action="store_true", help="compare ways to fit; writes nothing")
    parser.add_argument("--out", type=Path, default=TABLES, help="folder of the tables")
    arguments = parser.parse_args()
    data = read_data()
    if arguments.variants:
        print("\n".join(variant_rows(data)))
        return
    for device in BOARDS:
        table_of(device, data, Method()).save(arguments.out / f"{device}.yaml")
    print("\n".join(result_rows(data, Method())))


if __name__ == "__main__":
    main()
