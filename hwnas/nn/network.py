"""ArchSpec -> torch network. Built from the ops of `lower`; no shape is computed here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from hwnas import plugins
from hwnas.errors import UsageError
from hwnas.nn import blocks, elevit_blocks
from hwnas.space.arch import ArchSpec
from hwnas.space.ops import OpSpec, lower

__all__ = ["Network", "build", "build_op"]

_BLOCKS: Mapping[str, Callable[..., nn.Module]] = {
    "stem": blocks.Stem,
    "dw": blocks.DepthwiseConv,
    "ffn": blocks.FeedForward,
    "merge": blocks.Merge,
    "head": blocks.Head,
    "conv-pool-stem": elevit_blocks.ConvPoolStem,
    "conv-pool": elevit_blocks.ConvPool,
    "conv-ffn": elevit_blocks.ConvFeedForward,
    "dual-head": elevit_blocks.DualHead,
}
"""Op kinds by name. Attentions aren't listed: the file in `nn/attention` is enough."""


def build(arch: ArchSpec) -> Network:
    """The network of `arch`: float32, train mode, freshly initialised."""
    return Network(arch)


def build_op(op: OpSpec) -> nn.Module:
    """One op of a network, freshly initialised, in train mode.

    Shape: (B, *op.in_shape) -> (B, *op.out_shape). Raises UsageError for a kind that no file builds.
    """
    settings = dict(op.settings)
    if op.kind == "dw" and ".downsample." in op.place:  # a block's DW starts at 0, a downsample's doesn't
        return blocks.DepthwiseConv(**settings, norm_weight=1.0)  # type: ignore[arg-type]
    if op.kind in _BLOCKS:
        return _BLOCKS[op.kind](**settings)
    attention: Callable[..., nn.Module] = plugins.load("nn/attention", op.kind).Attention
    return attention(**settings)


class Network(nn.Module):
    """A vision transformer: its ops one after the other, each named as its place.

    `network.get_submodule("stages.1.blocks.0.attention")` is the attention of that block, and the
    keys of its weights start like that.

    Shape: images (B, 3, R, R) -> logits (B, classes), R being `arch.resolution`.
    """

    def __init__(self, arch: ArchSpec) -> None:
        super().__init__()
        self.arch = arch
        self.ops = lower(arch)
        """The ops in order; `place` names the module of each."""
        for op in self.ops:
            self._place(op.place, build_op(op))

    def forward(self, images: Tensor) -> Tensor:
        return self._run(images, [])

    def forward_features(self, images: Tensor) -> list[Tensor]:
        """The output of every stage, each (B, C, H, W)."""
        stages: list[Tensor] = []
        self._run(images, stages)
        return stages

    def _run(self, images: Tensor, stages: list[Tensor]) -> Tensor:
        """The logits; adds what each stage gives to `stages`."""
        side = self.arch.resolution
        if tuple(images.shape[1:]) != (3, side, side):
            raise UsageError(
                f"images must be (batch, 3, {side}, {side}), got {tuple(images.shape)}. "
                f"For another size, build the network from arch.adapted(resolution=...)"
            )
        x, stage = images, ""
        for op in self.ops:
            current = _stage(op.place)
            if stage and current != stage:
                stages.append(x)
            stage = current
            x = self.get_submodule(op.place)(x)
        return x

    def _place(self, path: str, module: nn.Module) -> None:
        """Registers the module under a dotted path, with empty modules on the way."""
        parent: nn.Module = self
        *way, name = path.split(".")
        for part in way:
            if not hasattr(parent, part):
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        parent.add_module(name, module)


def _stage(place: str) -> str:
    """The stage that an op is in: 'stages.1', or '' for stem and head."""
    match = re.match(r"stages\.\d+", place)
    return match.group() if match else ""
