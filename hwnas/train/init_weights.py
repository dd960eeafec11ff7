"""Where a training's weights start: another training's, published ones, or slices of a larger network's.

    FOLDER or FILE.safetensors   a checkpoint of hwnas, or weights with timm's or the authors' names
    PRESET                       timm's ImageNet weights of that preset, fetched by timm
    published                    those of the network itself, or of the preset that gives it the most

A weight of the same name and shape is taken as it is. A narrower one is the leading slice of the
larger network's: the first channels, and the middle of a kernel. In reuse attention, Q and K are
sliced apart. A table of attention biases of another window is resized, so that a network goes on at
another image size.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas import plugins
from hwnas.errors import FileFormatError, UsageError
from hwnas.paths import user_path
from hwnas.space import ArchSpec
from hwnas.space.presets import preset_info, preset_names

if TYPE_CHECKING:
    import torch
    from torch import nn

    from hwnas.train.callbacks import Callback

__all__ = [
    "PUBLISHED",
    "Start",
    "donor_preset",
    "find_start",
    "fitted",
    "initialise",
    "read_tensors",
    "resized_bias",
]

PUBLISHED = "published"
TIMM_NAMES = {"efficientvit": "efficientvit_{}", "shvit": "shvit_{}"}  # by family; the number follows
FAMILIES = ("efficientvit", "shvit", "uniform", "elevit")


@dataclass(frozen=True, slots=True)
class Start:
    """Weights to start from."""

    source: str
    """What a user would call it."""
    weights: Mapping[str, torch.Tensor]
    """By hwnas's names."""


def find_start(requested: str, arch: ArchSpec) -> Start:
    """The weights that `--init` names, for a network of `arch`.

    Raises UsageError when there are none such or they cannot be fetched, FileFormatError when a file
    is damaged or foreign.
    """
    if requested == PUBLISHED or requested in preset_names():
        name = donor_preset(arch) if requested == PUBLISHED else requested
        return Start(f"{name}, timm's ImageNet weights", _renamed(name, _fetched(name)))
    path = user_path(requested)
    if path.is_file() and not _is_checkpoint(path):
        state = read_tensors(path)
        for name in preset_names():
            renamed = _renamed(name, state)
            if _fits_preset(name, renamed):
                return Start(f"{path} ({name})", renamed)
        raise FileFormatError(
            f"{path}: neither a checkpoint of hwnas nor the weights of a preset under timm's or the "
            f"authors' names: {', '.join(list(state)[:3])} ..."
        )
    from hwnas.train.checkpoint import load

    return Start(requested, load(path).state_dict)


def initialise(
    network: nn.Module,
    requested: Path | str | Callable[[ArchSpec], Start],
    arch: ArchSpec,
    callback: Callback,
) -> None:
    """Start from other weights, where they fit; says which did. `requested` is as for `find_start`, or finds
    them itself. Raises UsageError when none does."""
    given = requested(arch) if callable(requested) else find_start(str(requested), arch)
    own = network.state_dict()
    taken = fitted(own, given.weights)
    if not any(tensor.is_floating_point() and tensor.ndim for tensor in taken.values()):
        raise UsageError(f"{given.source}: not one of its {len(given.weights)} tensors fits this network")
    network.load_state_dict(taken, strict=False)
    changed = sum(given.weights[key].shape != weight.shape for key, weight in taken.items())
    left = sorted(set(own) - set(taken))
    callback.note(
        f"{given.source}: {len(taken)} of {len(own)} tensors taken"
        + (f", {changed} of them sliced or resized" if changed else "")
        + (f"; freshly initialised: {', '.join(left[:5])}{' ...' if len(left) > 5 else ''}" if left else "")
    )


def donor_preset(arch: ArchSpec) -> str:
    """The preset with weights in timm whose slices fill the largest part of `arch`, the larger of two.

    Raises UsageError when none shares a block with it.
    """
    from hwnas.nn import build

    own = build(arch).state_dict()
    best, best_key = "", (0, 0)
    for name in preset_names():
        if preset_info(name).family in TIMM_NAMES:
            theirs = build(preset_info(name).arch).state_dict()
            taken = sum(
                weight.numel()
                for key, weight in own.items()
                if not key.startswith("head.linear")
                and key in theirs
                and _sliceable(weight, theirs[key], key)
            )
            key_ = (taken, sum(weight.numel() for weight in theirs.values()))
            if taken and key_ > best_key:
                best, best_key = name, key_
    if not best:
        raise UsageError(
            "no preset with published weights has a block that this network has: leave --init out"
        )
    return best


def fitted(own: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What `given` has for a network whose state dict is `own`: the same, sliced or resized."""
    found: dict[str, torch.Tensor] = {}
    for name, weight in own.items():
        if name in given:
            other = given[name]
            if other.shape == weight.shape:
                found[name] = other
            elif name.endswith("bias.table") and other.ndim == weight.ndim == 2:
                found[name] = resized_bias(other, round(weight.shape[1] ** 0.5))[: weight.shape[0]]
                if found[name].shape != weight.shape:
                    del found[name]
            elif not name.startswith("head.linear") and _sliceable(weight, other, name):
                found[name] = _sliced(other, weight.shape, name)
    return found


def resized_bias(table: torch.Tensor, size: int) -> torch.Tensor:
    """A table of biases by distance, (rows, old * old), for windows of another side: (rows, size * size).

    Bicubic between the distances, as EfficientViT and LeViT go on at another image size; distance 0
    stays distance 0, and the farthest the farthest.
    """
    import torch.nn.functional as F

    old = round(table.shape[1] ** 0.5)
    grid = table.view(1, -1, old, old)
    grid = F.interpolate(grid, size=(size, size), mode="bicubic", align_corners=True)
    return grid.reshape(table.shape[0], size * size)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file; raises FileFormatError for anything else, pickles above all."""
    plugins.require("safetensors", extra="torch")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise FileFormatError(
            f"{path}: not a safetensors file: {error}. A pickle (.pth) can run any code when loaded, so "
            "it is not read: convert it where you trust it"
        ) from None


def _sliceable(weight: torch.Tensor, other: torch.Tensor, name: str) -> bool:
    if weight.ndim != other.ndim or not weight.ndim:
        return weight.ndim == other.ndim
    if name.endswith("bias.table"):
        return weight.shape[0] <= other.shape[0]
    same_kernel_sides = all((a - b) % 2 == 0 for a, b in zip(weight.shape[2:], other.shape[2:], strict=True))
    return same_kernel_sides and all(a <= b for a, b in zip(weight.shape, other.shape, strict=True))


def _sliced(other: torch.Tensor, shape: torch.Size, name: str) -> torch.Tensor:
    import torch

    if ".query_key." in name:  # Q above K, half of the rows each
        half = (shape[0] // 2, *shape[1:])
        return torch.cat([_middle(part, half) for part in other.chunk(2)])
    return _middle(other, tuple(shape))


def _middle(other: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The leading channels and the middle of the kernel."""
    for axis, size in enumerate(shape):
        start = (other.shape[axis] - size) // 2 if axis >= 2 else 0
        other = other.narrow(axis, start, size)
    return other.contiguous()


def _renamed(name: str, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Published weights under our names, those that the preset has."""
    from hwnas.nn import build
    from hwnas.nn.published import published_key

    info = preset_info(name)
    if info.family not in FAMILIES:
        return {}
    names = {key: published_key(info.family, key) for key in build(info.arch).state_dict()}
    return {key: state[theirs] for key, theirs in names.items() if theirs in state}


def _fits_preset(name: str, renamed: Mapping[str, torch.Tensor]) -> bool:
    """Whether every weight of the preset is there in its shape, but for the head's."""
    from hwnas.nn import build

    return all(
        key in renamed and renamed[key].shape == weight.shape
        for key, weight in build(preset_info(name).arch).state_dict().items()
        if not re.match(r"head\.(linear|distilled)\.", key) and not key.endswith("num_batches_tracked")
    )


def _fetched(name: str) -> dict[str, torch.Tensor]:
    family = preset_info(name).family
    if family not in TIMM_NAMES:
        raise UsageError(
            f"--init {name}: timm has weights of EfficientViT and SHViT only: give a file or another preset"
        )
    timm: Any = plugins.require("timm", extra="torch")
    model = TIMM_NAMES[family].format(name.partition("-")[2])
    try:
        return dict(timm.create_model(model, pretrained=True).state_dict())
    except (OSError, RuntimeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"--init {name}: timm's weights of {model} cannot be fetched: {first}: fetch its "
            "model.safetensors where there is a network, and give the file as --init FILE"
        ) from None


def _is_checkpoint(path: Path) -> bool:
    """Whether a file is to be read as a checkpoint of hwnas, damaged ones and pickles included."""
    with path.open("rb") as file:
        beginning = file.read(1024 * 1024)
    return b'"hwnas":' in beginning or beginning[8:9] != b"{"
