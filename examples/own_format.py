"""A format of one's own to export to: compressed ONNX files, run by ONNX Runtime.

python examples/own_format.py
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import onnxruntime

import hwnas
from hwnas.export.deploy import prepare, write
from hwnas.export.formats import FORMATS, Files, Format, Run, Wanted
from hwnas.export.onnx_graph import network_graph
from hwnas.nn import build


def write_gzip(network: Any, wanted: Wanted) -> Files:
    """The network, already in the runtime's deployment graph, as one file."""
    return {".onnxgz": gzip.compress(network_graph(network, batch=wanted.batch, opset=wanted.opset))}


def only_file(files: Files, shape: tuple[int, ...]) -> bytes:
    """The model in one piece."""
    return files[".onnxgz"]


def load_gzip(model: bytes, batch: Any) -> Run:
    """Images -> logits; hwnas compares them with the network's before it writes the file."""
    session = onnxruntime.InferenceSession(gzip.decompress(model), providers=["CPUExecutionProvider"])
    return lambda images: session.run(["logits"], {"images": images})[0]


FORMATS["onnx-gzip"] = Format(
    name="onnx-gzip",
    suffixes=(".onnxgz",),
    ending=".onnxgz",
    runtime="onnxruntime",
    title="ONNX Runtime",
    package="onnxruntime",
    extra="torch",
    relative_tolerance=5e-4,
    precisions=("fp32",),
    writer=write_gzip,
    packer=only_file,
    loader=load_gzip,
)


def main() -> None:
    arch = hwnas.preset("uniform-t").adapted(resolution=64, stem_stride=4, classes=10)
    model = prepare(build(arch), model_format="onnx-gzip")
    allowed = f"(allowed: {model.parity_tolerance:.1e})"
    print(f"largest difference from torch: {model.parity_max_abs:.1e} {allowed}")
    print("written:", *write(model, Path("model.onnxgz")))


if __name__ == "__main__":
    main()
