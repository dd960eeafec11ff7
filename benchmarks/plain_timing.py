"""Times model files with the runtime's own API alone: nothing of hwnas is imported here.

    python benchmarks/plain_timing.py <<< '{"runtime": "onnxruntime", "threads": 1, "batch": 1,
        "files": {"a": "a.onnx"}, "reference": "r.onnx", "seconds": 0.4}'

One process: each file is loaded, warmed up and timed in turns with the reference file; a JSON line a file,
with the medians of both in milliseconds. What calls it starts a fresh process a round.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[], object]

WARMUP_RUNS, WARMUP_S = 5, 0.1
TURN_S = 0.003
"""A turn of the file lasts at least so long."""
FEWEST_TURNS = 10


def onnxruntime_run(path: Path, threads: int, batch: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    shape = [batch if isinstance(side, str) else side for side in source.shape]
    feed = {source.name: np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    return lambda: session.run(None, feed)


def openvino_run(path: Path, threads: int, batch: int) -> Run:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": openvino.Type.f32,
        "ENABLE_CPU_PINNING": False,
    }
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    request = compiled.create_infer_request()
    images = np.random.default_rng(0).standard_normal(tuple(compiled.input().shape)).astype(np.float32)
    request.set_input_tensor(openvino.Tensor(images, shared_memory=True))
    return lambda: request.infer(share_outputs=True)


def ncnn_run(path: Path, threads: int, batch: int) -> Run:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    net.load_param(str(path))
    net.load_model(str(path.with_suffix(".bin")))
    (source,), (sink,) = net.input_names(), net.output_names()
    shape = json.loads(path.with_suffix(".shape.json").read_text())
    images = ncnn.Mat(np.random.default_rng(0).standard_normal(shape).astype(np.float32)).clone()

    def run() -> object:
        extractor = net.create_extractor()
        extractor.input(source, images)
        code, logits = extractor.extract(sink)
        if code != 0:
            raise RuntimeError(f"ncnn error {code}")
        return logits

    return run


def torch_run(path: Path, threads: int, batch: int) -> Run:
    import torch

    torch.set_num_threads(threads)
    program = torch.export.load(path)
    module = program.module().to(memory_format=torch.channels_last)
    name = program.graph_signature.user_inputs[0]
    node = next(node for node in program.graph.nodes if node.name == name)
    images = torch.randn(tuple(node.meta["val"].shape)).to(memory_format=torch.channels_last)

    def run() -> object:
        with torch.inference_mode():
            return module(images)

    return run


RUNS: dict[str, Callable[[Path, int, int], Run]] = {
    "onnxruntime": onnxruntime_run,
    "openvino": openvino_run,
    "ncnn": ncnn_run,
    "torch": torch_run,
}


def timed_ms(run: Run, count: int = 1) -> float:
    start = time.perf_counter_ns()
    for _ in range(count):
        run()
    return (time.perf_counter_ns() - start) / 1e6 / count


def in_turns(run: Run, reference: Run, seconds: float) -> tuple[float, float, int]:
    """Median milliseconds of the two, and how many turns each had."""
    start, runs = time.monotonic(), 0
    while runs < WARMUP_RUNS or time.monotonic() - start < WARMUP_S:
        run()
        runs += 1
    count = max(1, round(TURN_S * 1e3 / timed_ms(run)))
    own: list[float] = []
    beside: list[float] = []
    start = time.monotonic()
    while len(own) < FEWEST_TURNS or time.monotonic() - start < seconds:
        reference()  # untimed: its data into the caches, as that of the file below
        beside.append(timed_ms(reference))
        run()
        own.append(timed_ms(run, count))
    return statistics.median(own), statistics.median(beside), len(own)


def main() -> None:
    asked: dict[str, Any] = json.load(sys.stdin)
    load, threads, batch = RUNS[asked["runtime"]], asked["threads"], asked["batch"]
    # The reference takes one image whatever the batch is, as beside a table's cells.
    reference = load(Path(asked["reference"]), threads, 1)
    for name, path in asked["files"].items():
        clock_ms, beside_ms, turns = in_turns(load(Path(path), threads, batch), reference, asked["seconds"])
        print(
            json.dumps({"name": name, "clock_ms": clock_ms, "beside_ms": beside_ms, "turns": turns}),
            flush=True,
        )


if __name__ == "__main__":
    main()
