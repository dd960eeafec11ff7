"""What `hwnas export` writes beside plain exports of the same network and weights, timed in one process.

    python benchmarks/export_latency.py [--models NAME ...] [--runtimes onnxruntime openvino ncnn]
        [--precisions fp32 int8] [--threads 1 2] [--rounds N] [--json FILE]

Plain is torch.onnx.export of timm's model (EfficientViT, SHViT) or of a reuse attention written head by
head (UniForm), in eval mode, by today's exporter (dynamo) and by the legacy one; in int8, ONNX Runtime's
static quantisation of these files, pre-processed as its guide says. OpenVINO reads the plain ONNX files. For
ncnn there is no plain file without its own converter: there the reference graph, in ncnn's layers, is plain.

All files of a network run in turns, round by round, so that the machine's speed is the same for all; which
goes first changes from round to round. Shown are medians, and the median of the rounds' ratios of hwnas's
time to the fastest plain file's with its 95 % interval: 0.95 is 5 % less time. Run it alone.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import math
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import latency_output as output
import numpy as np
import torch
from literal_uniform import literal
from torch import nn

from hwnas.board.timing import median, median_interval
from hwnas.errors import HwnasError, UsageError
from hwnas.export import deploy
from hwnas.export.deployment_graph import GRAPH
from hwnas.export.formats import FORMATS
from hwnas.export.ncnn.lowering import OPSET as NCNN_OPSET
from hwnas.export.ncnn.pack import packed
from hwnas.export.onnx_graph import OPSET, reference_graph
from hwnas.export.timing import one_thread
from hwnas.export.timing.random_weights import randomise
from hwnas.nn.network import Network, build
from hwnas.nn.published import load_published
from hwnas.space import preset, preset_info, preset_names

_FAMILIES = ("efficientvit", "shvit", "uniform")
_TIMM = {"efficientvit": "efficientvit_{}", "shvit": "shvit_{}"}
_MAX_DIFFERENCE = {"fp32": 2e-3, "int8": 0.5}  # of logits, over the largest
_CASES = (("onnxruntime", "fp32"), ("onnxruntime", "int8"), ("openvino", "fp32"), ("ncnn", "fp32"))
_CALIBRATION_IMAGES = 4


def pair(name: str) -> tuple[Network, nn.Module]:
    """hwnas's network and the other implementation, with the same weights, in eval mode."""
    family = preset_info(name).family
    if family == "uniform":
        network = randomise(build(preset(name))).eval()
        return network, literal(network)
    import timm

    other = timm.create_model(_TIMM[family].format(name.rpartition("-")[2]), pretrained=False)
    randomise(other)
    return load_published(name, other.state_dict()), other.eval()


def plain_export(module: nn.Module, side: int, *, dynamo: bool) -> bytes:
    """What torch's own exporter writes, with its defaults for a network in eval mode."""
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["logits"]}
    example = (torch.zeros(1, 3, side, side),)
    stream = io.BytesIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if dynamo:
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            program = torch.onnx.export(module, example, dynamo=True, **names)
            assert program is not None
            stream.write(program.model_proto.SerializeToString())
        else:
            torch.onnx.export(module, example, stream, opset_version=OPSET, dynamo=False, **names)
    return stream.getvalue()


def plain_int8(model: bytes, images: Iterable[np.ndarray[Any, Any]]) -> bytes:
    """ONNX Runtime's static quantisation of an ONNX file, int8 weights per channel, uint8 activations."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    waiting = iter([{"images": image} for image in images])

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            return next(waiting, None)

    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, quantised = (Path(folder) / name for name in ("plain", "prepared", "quantised"))
        plain.write_bytes(model)
        quant_pre_process(plain, prepared)
        quantization.quantize_static(
            prepared,
            quantised,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        return quantised.read_bytes()


def models(name: str, cases: Sequence[tuple[str, str]]) -> dict[tuple[str, str], dict[str, bytes]]:
    """The files to compare as their runtime takes them, by (runtime, precision) and by who wrote them."""
    network, other = pair(name)
    side = network.arch.resolution
    images = [
        np.random.default_rng(seed).standard_normal((1, 3, side, side), np.float32)
        for seed in range(_CALIBRATION_IMAGES)
    ]
    plain = {}
    if any(runtime != "ncnn" for runtime, _ in cases):
        plain = {
            exporter: plain_export(other, side, dynamo=exporter == "dynamo")
            for exporter in ("dynamo", "legacy")
        }
    found: dict[tuple[str, str], dict[str, bytes]] = {}
    for runtime, precision in cases:
        form = next(form for form in FORMATS.values() if form.runtime == runtime)
        calibration = images if precision == "int8" else None
        written = deploy.prepare(network, model_format=form.name, calibration=calibration)
        found[runtime, precision] = {"hwnas": form.packer(written.files, (3, side, side))}
        if runtime == "ncnn":
            reference = packed(reference_graph(network, opset=NCNN_OPSET))
            found[runtime, precision]["reference graph"] = reference
        elif precision == "int8":
            found[runtime, precision] |= {key: plain_int8(data, images) for key, data in plain.items()}
        else:
            found[runtime, precision] |= plain
    return found


def side_by_side(
    name: str, threads: Sequence[int], rounds: int, cases: Sequence[tuple[str, str]] = _CASES
) -> list[dict[str, Any]]:
    """A row for each runtime and precision, and each number of threads."""
    rows = []
    for (runtime, precision), files in models(name, cases).items():
        module = importlib.import_module(f"hwnas.runtimes.{runtime}")
        for count in threads:
            sessions = {
                writer: module.prepare(data, threads=count, batch=1, precision=precision)
                for writer, data in files.items()
            }
            difference = _difference(name, sessions, precision)
            rows.append(
                {"network": name, "runtime": runtime, "precision": precision, "threads": count}
                | _compared(_in_turns(sessions, rounds))
                | {"logits_differ": difference}
            )
            for session in sessions.values():
                session.close()
    return rows


def _difference(name: str, sessions: Mapping[str, Any], precision: str) -> float:
    """The most that a logit differs from hwnas's file's, over the largest; raises when that is too much."""
    logits = {writer: np.asarray(session.outputs()[0]).ravel() for writer, session in sessions.items()}
    ours = logits.pop("hwnas")
    worst = max(float(np.abs(ours - theirs).max() / np.abs(theirs).max()) for theirs in logits.values())
    if not worst <= _MAX_DIFFERENCE[precision]:
        raise HwnasError(f"{name}: all exports must compute the same, they differ by {worst:.1e}")
    return worst


def _compared(samples: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Medians in milliseconds, and hwnas's time over that of the fastest other file."""
    medians = {writer: median(own) for writer, own in samples.items()}
    best = min((writer for writer in samples if writer != "hwnas"), key=medians.__getitem__)
    ratios = tuple(a / b for a, b in zip(samples["hwnas"], samples[best], strict=True))
    low, high = median_interval(ratios)
    return {
        "ms": medians,
        "best_plain": best,
        "ratio": median(ratios),
        "ratio_low": low,
        "ratio_high": high,
    }


def _in_turns(sessions: Mapping[str, Any], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of one run, one a round; a tenth of the rounds before them is thrown away."""
    order = list(sessions)
    samples: dict[str, list[float]] = {key: [] for key in order}
    for number in range(-max(5, rounds // 10), rounds):
        order.append(order.pop(0))
        for key in order:
            run = sessions[key].run
            run()  # its own data into the caches
            start = time.perf_counter_ns()
            run()
            run()
            if number >= 0:
                samples[key].append((time.perf_counter_ns() - start) / 2e6)
    return samples


def by_family(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The geometric mean and the worst of the ratios of a family's networks, per case and threads."""
    grouped: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        family = preset_info(row["network"]).family
        key = (family, row["runtime"], row["precision"], row["threads"])
        grouped.setdefault(key, []).append(row["ratio"])
    return [
        dict(zip(("family", "runtime", "precision", "threads"), key, strict=True))
        | {
            "networks": len(ratios),
            "ratio": math.exp(sum(map(math.log, ratios)) / len(ratios)),
            "worst_ratio": max(ratios),
        }
        for key, ratios in grouped.items()
    ]


def main() -> None:
    parser = output.parser(__doc__)
    known = [
        name
        for name in preset_names()
        if preset_info(name).family in _FAMILIES and not name.endswith(("-paper", "-table4"))
    ]
    runtimes = list(dict.fromkeys(runtime for runtime, _ in _CASES))
    parser.add_argument("--models", nargs="+", choices=known, default=known, metavar="NAME")
    parser.add_argument("--runtimes", nargs="+", choices=runtimes, default=runtimes)
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "int8"), default=["fp32", "int8"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    cases = [case for case in _CASES if case[0] in options.runtimes and case[1] in options.precisions]
    if not cases:
        raise UsageError("int8 is compared on onnxruntime only: add it to --runtimes")
    rows: list[dict[str, Any]] = []
    with one_thread():
        for name in options.models:
            own = side_by_side(name, options.threads, options.rounds, cases)
            rows += own
            ratios = ", ".join(f"{row['runtime']} {row['precision']} {row['ratio']:.3f}" for row in own)
            output.say(f"{name}: hwnas / best plain: {ratios}")
    versions = {
        runtime: importlib.import_module(f"hwnas.runtimes.{runtime}").probe()["version"]
        for runtime in {runtime for runtime, _ in cases}
    }
    families = by_family(rows)
    output.answer(
        {
            "environment": {**versions, "torch": str(torch.__version__), "graph": GRAPH},
            "rows": rows,
            "families": families,
        },
        [_networks_grid(rows), _families_grid(families)],
        options.json,
    )


def _networks_grid(rows: Sequence[Mapping[str, Any]]) -> Any:
    writers = ("hwnas", "dynamo", "legacy", "reference graph")
    return output.grid(
        "milliseconds; the ratio is hwnas over the fastest plain file",
        ("network", "runtime", "precision", "threads", *writers, "ratio", "95 % from", "to"),
        [
            [row[key] for key in ("network", "runtime", "precision", "threads")]
            + [row["ms"].get(writer) for writer in writers]
            + [row[key] for key in ("ratio", "ratio_low", "ratio_high")]
            for row in rows
        ],
    )


def _families_grid(families: Sequence[Mapping[str, Any]]) -> Any:
    keys = ("family", "runtime", "precision", "threads", "networks", "ratio", "worst_ratio")
    return output.grid("by family", keys, [[row[key] for key in keys] for row in families])


if __name__ == "__main__":
    output.run(main)
