"""The networks of ncnn's own benchmark: their features, and their milliseconds on this machine.

    python experiments/board_profiles/ncnn_graphs.py features GRAPHS   # -> ncnn_networks.csv
    python experiments/board_profiles/ncnn_graphs.py time GRAPHS       # -> ncnn_x86.csv, some minutes

GRAPHS is a folder with the .param files of Tencent/ncnn, benchmark/ (BSD-3). Weights are zeros, as in
ncnn's benchmark: only the graph matters. Needs `hwnas[torch]` and ncnn. End other programs before `time`.
"""

from __future__ import annotations

import argparse
import csv
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.predictors.latency.features import FEATURE_NAMES

HERE = Path(__file__).resolve().parent

INPUTS: Mapping[str, tuple[int, int]] = {
    "squeezenet": (227, 227), "alexnet": (227, 227), "blazeface": (128, 128), "squeezenet_ssd": (300, 300),
    "mobilenet_ssd": (300, 300), "mobilenet_yolo": (416, 416), "mobilenetv2_yolov3": (352, 352),
    "yolov4-tiny": (416, 416), "nanodet_m": (320, 320), "yolo-fastest-1.1": (320, 320),
    "yolo-fastestv2": (352, 352), "FastestDet": (352, 352), "vision_transformer": (384, 384),
}  # fmt: skip
"""Width and height of the image; 224 by 224 where not listed. From benchncnn.cpp."""
ANCHORS = ("uniform-t", "uniform-s", "uniform-m", "uniform-l", "shvit-s1", "shvit-s2", "efficientvit-m0",
           "efficientvit-m2")  # fmt: skip
"""Presets timed among the graphs: their ratio to the table `cpu-x86-ncnn` puts both on one scale."""

UNTIMED = ("nanodet_m",)
"""Its six heads come one by one: no single output runs all of it."""

FREE = {"Input", "Split", "Flatten", "Reshape", "Noop", "Dropout", "MemoryData"}
"""Layers that move no data."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A line of a .param file."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: Mapping[int, str]

    def number(self, key: int, default: int = 0) -> int:
        return int(float(self.settings.get(key, default)))


def read_layers(path: Path) -> list[Layer]:
    """The layers of a graph in the order in which they run."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines()[2:]:
        kind, _, count_in, count_out, *rest = line.split()
        ins, outs = int(count_in), int(count_out)
        settings = {}
        for item in rest[ins + outs :]:
            key, _, value = item.partition("=")
            settings[int(key)] = value
        found.append(Layer(kind, tuple(rest[:ins]), tuple(rest[ins : ins + outs]), settings))
    return found


def load(path: Path, *, light: bool = True) -> Any:
    """The graph in ncnn, on one thread, in fp32 as the runtime `ncnn` of hwnas has it."""
    import ncnn

    net = ncnn.Net()
    option = net.opt
    option.num_threads = 1
    option.lightmode = light
    option.use_vulkan_compute = False
    option.use_fp16_packed = option.use_fp16_storage = option.use_fp16_arithmetic = False
    option.use_bf16_storage = False
    if hasattr(option, "use_bf16_packed"):
        option.use_bf16_packed = False
    option.use_packing_layout = True
    if net.load_param(str(path)) != 0 or net.load_model(ncnn.DataReaderFromEmpty()) != 0:
        raise ValueError(f"{path}: ncnn cannot read this graph")
    return net


def image(name: str) -> Any:
    """What the graph runs on, as in ncnn's benchmark."""
    import ncnn
    import numpy as np

    width, height = INPUTS.get(name, (224, 224))
    pixels = np.full((3, height, width), 0.01, dtype=np.float32)
    return ncnn.Mat(pixels).clone()  # of its own: an ncnn.Mat does not keep the array alive


def ends(layers: Sequence[Layer]) -> tuple[str, str]:
    """The graph's first input and its first output."""
    read = {name for layer in layers for name in layer.inputs}
    first = next(layer.outputs[0] for layer in layers if layer.kind == "Input")
    return first, next(name for layer in layers for name in layer.outputs if name not in read)


# --- features --------------------------------------------------------------------------------


def shapes_of(path: Path, layers: Sequence[Layer]) -> dict[str, tuple[int, ...]]:
    """The shape of each blob, from a run: (w,), (w, h) or (w, h, c)."""
    net = load(path, light=False)  # must outlive its extractor
    extractor = net.create_extractor()
    extractor.input(ends(layers)[0], image(path.stem))
    shapes = {}
    for layer in layers:
        for name in layer.outputs:
            code, mat = extractor.extract(name)
            if code == 0:
                shapes[name] = (mat.w, mat.h, mat.c)[: mat.dims]
    return shapes


def count(layers: Sequence[Layer], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The six features of a graph, counted as `compute_features.py` counts an ONNX graph."""
    total = dict.fromkeys(FEATURE_NAMES, 0)
    for feature, amount in _amounts(layers, shapes):
        total[feature] += amount
    return total


def _amounts(layers: Sequence[Layer], shapes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, int]]:
    before = ""
    for layer in layers:
        if layer.kind in FREE:
            continue
        out = shapes.get(layer.outputs[0], (0,))
        for feature, macs, weights in _arithmetic(layer, out, shapes):
            yield feature, macs
            yield "weight_bytes", 4 * weights
        fused = layer.kind == "ReLU" and before in ("Convolution", "ConvolutionDepthWise", "InnerProduct")
        before = layer.kind
        if fused:
            continue
        writes = sum(math.prod(shapes.get(name, (0,))) for name in layer.outputs)
        reads = sum(math.prod(shapes.get(name, (0,))) for name in dict.fromkeys(layer.inputs))
        if layer.kind in ("Slice", "Crop"):  # reads no more than it keeps
            reads = writes
        yield "activation_bytes", 4 * (reads + writes)
        # Attention is one layer: four projections, two products and a softmax.
        yield "nodes", 7 if layer.kind == "MultiHeadAttention" else 1


def _arithmetic(
    layer: Layer, out: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[str, int, int]]:
    """(feature, MACs, weights) of what the layer multiplies."""
    if layer.kind in ("Convolution", "ConvolutionDepthWise", "DeconvolutionDepthWise"):
        weights, channels = layer.number(6), layer.number(0)
        side = layer.number(1)
        kernel = side * layer.number(11, side)
        depthwise = layer.kind != "Convolution" and weights == channels * kernel
        dense = "pointwise_macs" if kernel == 1 and layer.kind == "Convolution" else "conv_macs"
        places = shapes[layer.inputs[0]] if layer.kind.startswith("Deconv") else out
        yield "depthwise_macs" if depthwise else dense, math.prod(places[:2]) * weights, weights + channels
    elif layer.kind == "InnerProduct":
        rows = out[1] if len(out) == 2 else 1
        yield "pointwise_macs", rows * layer.number(2), layer.number(2) + layer.number(0)
    elif layer.kind == "Gemm":
        weights = layer.number(8) * layer.number(9)
        rows = shapes[layer.inputs[0]][1]
        yield "pointwise_macs", rows * weights, weights + layer.number(8)
    elif layer.kind == "MultiHeadAttention":
        width, weights = layer.number(0), layer.number(2)
        tokens = shapes[layer.inputs[0]][1]
        yield "pointwise_macs", 4 * tokens * weights + 2 * tokens**2 * width, 4 * (weights + width)


def write_features(folder: Path) -> None:
    with (HERE / "ncnn_networks.csv").open("w", newline="", encoding="utf-8") as file:
        file.write("# Counted from the graphs of ncnn's benchmark (Tencent/ncnn a4d2ea1, BSD-3) by\n")
        file.write("# ncnn_graphs.py features. Width and height of the image in pixels.\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "width", "height", *FEATURE_NAMES])
        for path in sorted(folder.glob("*.param")):
            layers = read_layers(path)
            counted = count(layers, shapes_of(path, layers))
            writer.writerow([path.stem, *INPUTS.get(path.stem, (224, 224)), *counted.values()])
            print(path.stem, counted, flush=True)


# --- times -----------------------------------------------------------------------------------


def graph_run(path: Path) -> Callable[[], Any]:
    """What runs the graph once."""
    net = load(path)
    (start, end), mat = ends(read_layers(path)), image(path.stem)

    def run() -> Any:
        extractor = net.create_extractor()
        extractor.input(start, mat)
        return extractor.extract(end)

    return run


def preset_run(name: str) -> Callable[[], Any]:
    """What runs a preset once, as `hwnas measure` does."""
    from hwnas.measure.networks import exporter_for
    from hwnas.runtimes.ncnn import prepare
    from hwnas.space.presets import preset

    model = exporter_for("ncnn", "fp32").network_model(preset(name), batch=1)
    return prepare(model, threads=1, batch=1, precision="fp32").run


def pass_ms(run: Callable[[], Any], *, seconds: float) -> float:
    """The fastest of runs for about so many seconds, at least 5 and at most 60; two warm-ups before.

    In CPU time of the one thread that computes, which other programs do not lengthen.
    """
    run(), run()
    taken: list[float] = []
    while len(taken) < 5 or (sum(taken) < 1000 * seconds and len(taken) < 60):
        start = time.thread_time_ns()
        run()
        taken.append((time.thread_time_ns() - start) / 1e6)
    return min(taken)


def write_times(folder: Path, *, passes: int, seconds: float, only: Sequence[str], out: Path) -> None:
    import ncnn

    ncnn.set_omp_num_threads(1)
    graphs = {
        path.stem: path
        for path in sorted(folder.glob("*.param"))
        if path.stem not in UNTIMED and (not only or path.stem in only)
    }
    runs: dict[str, Callable[[], Callable[[], Any]]] = {
        name: (lambda path=path: graph_run(path)) for name, path in graphs.items()
    }
    made = {name: preset_run(name) for name in (ANCHORS[:1] if only else ANCHORS)}
    runs |= {name: (lambda run=run: run) for name, run in made.items()}
    found: dict[str, list[float]] = {name: [] for name in runs}
    for at in range(passes):
        order = list(runs)
        random.Random(at).shuffle(order)
        for name in order:
            found[name].append(pass_ms(runs[name](), seconds=seconds))
            print(at, name, f"{found[name][-1]:.3f}", flush=True)
        with out.open("w", newline="", encoding="utf-8") as file:
            file.write(
                f"# Milliseconds with ncnn {ncnn.__version__}, fp32, one thread, batch 1: the fastest\n"
            )
            file.write(f"# run of each pass in CPU time; made by ncnn_graphs.py time on {processor()}.\n")
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["model", *(f"pass_{place + 1}_ms" for place in range(at + 1))])
            for name in runs:
                writer.writerow([name, *(f"{ms:.4f}" for ms in found[name])])


def processor() -> str:
    """The processor's name, as the system has it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("features", "time"))
    parser.add_argument("graphs", type=Path, help="folder of the .param files")
    parser.add_argument("--only", nargs="*", default=(), help="time these graphs and one preset only")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="of one network in one pass")
    parser.add_argument("--out", type=Path, default=HERE / "ncnn_x86.csv")
    arguments = parser.parse_args()
    if arguments.what == "features":
        write_features(arguments.graphs)
    else:
        write_times(
            arguments.graphs,
            passes=arguments.passes,
            seconds=arguments.seconds,
            only=arguments.only,
            out=arguments.out,
        )


if __name__ == "__main__":
    main()
