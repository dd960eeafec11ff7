"""`hwnas export`: a network as one ONNX file, BatchNorm folded, checked against torch."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas import plugins
from hwnas.cli.common import JsonOption, emit_json, resolve_arch
from hwnas.errors import UsageError

if TYPE_CHECKING:
    from hwnas.nn.export import Batch
    from hwnas.nn.network import Network

__all__ = ["command"]


def command(
    arch: Annotated[
        str,
        typer.Argument(
            metavar="ARCH|CKPT",
            help="A checkpoint, for its trained weights; or a preset, an architecture file (YAML) or RUN#2, "
            "with random weights, which is enough for timing.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="The ONNX file to write, replaced if there; NAME.onnx by default.",
        ),
    ] = None,
    batch: Annotated[
        str, typer.Option("--batch", metavar="N|dynamic", help="Images at once, or any number of them.")
    ] = "1",
    opset: Annotated[
        int, typer.Option("--opset", metavar="N", help="ONNX operator set; older runtimes need a lower one.")
    ] = 17,
    as_json: JsonOption = False,
) -> None:
    """Write a network as one ONNX file.

    The weights are inside, BatchNorm is folded, and ONNX Runtime must give torch's logits: otherwise no
    file is written. Input `images` (N, 3, side, side), output `logits` (N, classes).
    """
    images = _batch(batch)
    if out is not None:
        _check_folder(out)
    for package in ("torch", "onnx", "onnxruntime"):
        plugins.require(package, extra="torch")
    from hwnas.nn.export import export_onnx

    name, network, trained = _network(arch)
    out = Path(name.replace("#", "-") + ".onnx") if out is None else out
    _check_folder(out)
    written = export_onnx(network, out, batch=images, opset=opset)
    side, classes = network.arch.resolution, network.arch.classes
    weights = "trained" if trained else "random"
    next_command = f"hwnas measure {shlex.quote(arch)}"
    if as_json:
        emit_json(
            {
                "schema": 1,
                "name": name,
                "id": network.arch.id,
                "weights": weights,
                "file": str(written.path),
                "size_bytes": written.size_bytes,
                "batch": images,
                "resolution": side,
                "classes": classes,
                "opset": written.opset,
                "nodes": written.nodes,
                "parity_max_abs": written.parity_max_abs,
                "parity_tolerance": written.parity_tolerance,
                "next_command": next_command,
            }
        )
        return
    sys.stdout.write(
        f"{written.path}: {name} (id {network.arch.id}), {weights} weights\n"
        f"size    {written.size_bytes / 2**20:.2f} MiB, {written.nodes} nodes, opset {written.opset}\n"
        f"input   images ({batch}, 3, {side}, {side})\n"
        f"output  logits ({batch}, {classes})\n"
        f"parity  ONNX Runtime within {written.parity_max_abs:.1e} of torch "
        f"({written.parity_tolerance:.1e} allowed)\n"
        f"Next: {next_command}\n"
    )
    if not trained:
        sys.stderr.write(
            "The weights are random: good for timing, not for use. Export a checkpoint for use.\n"
        )


def _batch(text: str) -> Batch:
    if text == "dynamic":
        return "dynamic"
    if text.isascii() and text.isdigit() and int(text) >= 1:
        return int(text)
    raise UsageError(f"--batch must be a whole number from 1, or 'dynamic', got '{text}'")


def _check_folder(out: Path) -> None:
    """What would keep the file from being written, found before the work."""
    if out.is_dir():
        raise UsageError(f"--out must be a file, got the folder {out}: try --out {out / 'model.onnx'}")
    if not out.parent.is_dir():
        raise UsageError(f"--out: no folder {out.parent}: create it with mkdir -p {out.parent}")


def _network(text: str) -> tuple[str, Network, bool]:
    """(name, network, whether its weights are trained ones)."""
    from hwnas.nn.network import Network, build
    from hwnas.nn.random_weights import randomise

    path = Path(text)
    if path.exists() and path.suffix not in (".yaml", ".yml") and not (path / "run.yaml").exists():
        from hwnas.train.checkpoint import load, trained_network

        checkpoint = load(path)
        for reason in checkpoint.skipped:
            sys.stderr.write(f"{reason}; taking another checkpoint of that training\n")
        network = trained_network(checkpoint)
        assert isinstance(network, Network)
        return checkpoint.name or path.stem, network, True
    name, arch = resolve_arch(text)
    return name, randomise(build(arch)), False
