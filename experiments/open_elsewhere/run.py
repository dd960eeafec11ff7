"""Do exported ONNX files open outside ONNX Runtime, and compute the same there?

    pip install opencv-python-headless && npm install onnxruntime-web     # both in folders of their own
    python experiments/open_elsewhere/run.py [--node-modules FOLDER/node_modules] [--json FILE]

For each network its file in fp32 and in int8: onnx's full checker with strict shape inference; OpenCV's dnn
module (5.0 and later); onnxruntime-web in WebAssembly, under node. For a detector as well, of random
weights. Printed is the largest difference of an output from ONNX Runtime's, over the largest value; or why
a client cannot open the file. A client that is not installed is left out, and the table says so.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from hwnas.dense.checkpoint import DenseCheckpoint
from hwnas.dense.networks import build_dense
from hwnas.dense.recipe import read_recipe
from hwnas.export import dense, deploy
from hwnas.export.timing.random_weights import randomise
from hwnas.nn.network import build
from hwnas.space import preset

NETWORKS = ("uniform-t", "efficientvit-m5", "shvit-s4", "elevit-paper")
DETECTOR = "efficientvit-m0"
HERE = Path(__file__).parent

Outputs = list[np.ndarray[Any, Any]]


def files(networks: Sequence[str]) -> dict[str, bytes]:
    """The ONNX file of each network in fp32 and int8, and of a detector, by what it is called."""
    found = {}
    for name in networks:
        network = randomise(build(preset(name))).eval()
        side = network.arch.resolution
        images = np.random.default_rng(1).standard_normal((1, 3, side, side), np.float32)
        found[f"{name} fp32"] = deploy.prepare(network).files[".onnx"]
        found[f"{name} int8"] = deploy.prepare(network, calibration=[images]).files[".onnx"]
    trained = detector(DETECTOR)
    size = dense.input_size(trained, "320x256")
    images = np.random.default_rng(1).standard_normal((1, 3, size[1], size[0])).astype(np.float32)
    for precision, calibration in (("fp32", None), ("int8", [images])):
        made = dense.prepare(trained, size=size, calibration=calibration)
        found[f"detector on {DETECTOR} {precision}"] = made.model.files[".onnx"]
    return found


def detector(name: str) -> DenseCheckpoint:
    """A detector of three classes with random weights, as its training would start."""
    recipe = dataclasses.replace(read_recipe("small"), stem_stride=8)
    arch = preset(name).adapted(stem_stride=8)
    torch.manual_seed(0)
    network = build_dense(arch, "detect", 3, recipe)
    classes = ("circle", "square", "triangle")
    return DenseCheckpoint(
        dict(network.state_dict()), classes, recipe, (), arch=network.backbone.arch, task="detect"
    )


# --- clients: what is wrong, or the outputs ---------------------------------------------------


def onnxruntime_outputs(model: bytes, images: np.ndarray[Any, Any]) -> Outputs:
    """The reference."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return list(session.run(None, {"images": images}))


def checked(model: bytes) -> str:
    """`ok`, or what onnx's checker says."""
    try:
        parsed = onnx.load_from_string(model)
        onnx.checker.check_model(parsed, full_check=True)
        onnx.shape_inference.infer_shapes(parsed, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # the checker's and shape inference's have no common base
        return _short(error)
    return "ok"


def opencv_outputs(model: bytes, images: np.ndarray[Any, Any]) -> Outputs:
    """OpenCV's dnn module; its own engine, on the CPU."""
    import cv2

    network = cv2.dnn.readNetFromONNX(np.frombuffer(model, np.uint8))
    network.setInput(images, "images")
    names = [output.name for output in onnx.load_from_string(model).graph.output]
    return [np.asarray(output) for output in network.forward(names)]


def web_outputs(model: bytes, images: np.ndarray[Any, Any], *, modules: Path) -> Outputs:
    """onnxruntime-web in WebAssembly, one thread, under node."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.onnx").write_bytes(model)
        images.tofile(folder / "images.bin")
        (folder / "node_modules").symlink_to(modules.resolve())
        shutil.copy(HERE / "web.mjs", folder)
        shape = json.dumps(list(images.shape))
        done = subprocess.run(
            ["node", "web.mjs", shape], cwd=folder, capture_output=True, text=True, timeout=300
        )
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "node failed")
        shapes = json.loads(done.stdout.strip().splitlines()[-1])
        names = [output.name for output in onnx.load_from_string(model).graph.output]
        return [np.fromfile(folder / f"{output}.bin", np.float32).reshape(shapes[output]) for output in names]


def compared(outputs: Callable[[], Outputs], reference: Outputs) -> str | float:
    """The largest difference over the largest value, of all outputs; or why there are none."""
    try:
        found = outputs()
    except Exception as error:  # every client has its own
        return _short(error)
    shares = [
        float(np.abs(own.reshape(other.shape) - other).max() / np.abs(other).max())
        for own, other in zip(found, reference, strict=True)
    ]
    return float(np.max(shares))


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return f"cannot: {text[:160]}"


def clients(modules: Path | None) -> Mapping[str, tuple[str, Callable[..., Outputs]]]:
    """Version and outputs of each client that is installed."""
    found: dict[str, tuple[str, Callable[..., Outputs]]] = {}
    try:
        import cv2

        found["OpenCV dnn"] = (str(cv2.__version__), opencv_outputs)
    except ImportError:
        print("OpenCV is not installed: pip install opencv-python-headless")
    package = None if modules is None else modules / "onnxruntime-web" / "package.json"
    if package is None or not package.is_file():
        print("onnxruntime-web is not given: npm install onnxruntime-web, and --node-modules FOLDER")
    else:
        assert modules is not None
        folder = modules
        version = str(json.loads(package.read_text())["version"])
        found["onnxruntime-web"] = (
            version,
            lambda model, images: web_outputs(model, images, modules=folder),
        )
    return found


def main() -> None:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--node-modules", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    known = clients(asked.node_modules)
    rows: list[dict[str, Any]] = []
    for name, model in files(asked.networks).items():
        shape = [
            side.dim_value for side in onnx.load_from_string(model).graph.input[0].type.tensor_type.shape.dim
        ]
        images = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        reference = onnxruntime_outputs(model, images)
        row: dict[str, Any] = {"file": name, "checker": checked(model)}
        for client, (_, outputs) in known.items():
            row[client] = compared(partial(outputs, model, images), reference)
        rows.append(row)
        print(json.dumps(row), flush=True)
    versions = {
        **{package: importlib.metadata.version(package) for package in ("onnx", "onnxruntime")},
        **{client: version for client, (version, _) in known.items()},
    }
    print(table(rows, versions))
    if asked.json is not None:
        asked.json.write_text(json.dumps({"versions": versions, "rows": rows}, indent=1) + "\n")


def table(rows: Sequence[Mapping[str, Any]], versions: Mapping[str, str]) -> str:
    """The results in Markdown."""
    columns = list(rows[0])[2:]
    titles = ["file", f"onnx {versions['onnx']} checker", *(f"{name} {versions[name]}" for name in columns)]
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    for row in rows:
        values = [row[name] if isinstance(row[name], str) else f"{row[name]:.1e}" for name in columns]
        lines.append(f"| {' | '.join([row['file'], row['checker'], *values])} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
