"""What the attentions of a network do with images: where each position looks, what each head gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hwnas import plugins
from hwnas.nn.attention.element_wise import ElementWiseAttention
from hwnas.nn.network import Network

__all__ = [
    "SeenAttention",
    "attention_places",
    "grad_cam",
    "look",
    "stage_ends",
]


@dataclass(frozen=True, slots=True)
class SeenAttention:
    """One attention of a network, as it was while the network saw a batch of B images."""

    place: str
    """Of the attention in the network, such as stages.1.blocks.0.attention."""
    kind: str
    """Such as cascaded-group."""
    heads: int
    """Heads that the values have; a channel each in element-wise attention."""
    maps: tuple[Tensor, ...]
    """What the softmax gave: (windows * B, N, N) for each matrix, rows being the positions that look and
    columns what they look at; one (B, C, H, W) in element-wise attention. Fewer matrices than heads where
    heads share them."""
    received: Tensor
    """(B, matrices, H, W): the attention that each position gets from all others of its window, on
    average; in element-wise attention (B, 1, H, W), what its own values are weighed with, over channels."""
    outputs: Tensor
    """(B, heads, channels of a head, H, W): what each head gives."""


def attention_places(network: Network) -> dict[str, str]:
    """The kind of each attention, by its place, in the order they run."""
    kinds = plugins.names("nn/attention")
    return {op.place: op.kind for op in network.ops if op.kind in kinds}


@torch.no_grad()
def look(network: Network, images: Tensor) -> tuple[Tensor, tuple[SeenAttention, ...]]:
    """The logits (B, classes) of `images` (B, 3, R, R), and what each attention did meanwhile.

    The network is in eval mode meanwhile. Raises UsageError for images of another size.
    """
    listener = _Softmaxes()
    given: dict[str, Tensor] = {}
    hooks = []
    places = attention_places(network)
    for place in places:
        module = network.get_submodule(place)
        hooks += [
            module.register_forward_pre_hook(listener.enter(place)),
            module.register_forward_hook(listener.leave),
            module.get_submodule("output").register_forward_pre_hook(_keep(given, place)),
        ]
    was_training = network.training
    try:
        with listener:
            logits = network.eval()(images)
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    seen = (
        _seen(place, kind, network.get_submodule(place), tuple(listener.found[place]), given[place])
        for place, kind in places.items()
    )
    return logits, tuple(seen)


def _seen(place: str, kind: str, module: nn.Module, maps: tuple[Tensor, ...], mixed: Tensor) -> SeenAttention:
    windows: Any = getattr(module, "windows", None)
    heads: Any = module.heads
    channels: Any = module.head_channels
    side = mixed.shape[-1]  # of a window, where there are windows
    if isinstance(module, ElementWiseAttention):
        maps = tuple(own.reshape(mixed.shape) for own in maps)
        received = maps[0].mean(dim=1, keepdim=True)
    else:
        received = torch.stack([own.mean(dim=1) for own in maps], dim=1)  # (windows * B, matrices, N)
        received = received.reshape(*received.shape[:2], side, side)
        if windows is not None:
            received, mixed = windows.join(received), windows.join(mixed)
    outputs = mixed[:, : heads * channels].reshape(len(mixed), heads, channels, *mixed.shape[2:])
    return SeenAttention(place, kind, heads, maps, received, outputs)


def _keep(kept: dict[str, Tensor], place: str) -> Callable[..., None]:
    """A hook that keeps what a module is given."""

    def hook(_: nn.Module, given: tuple[Any, ...]) -> None:
        kept[place] = given[0]

    return hook


class _Softmaxes(TorchFunctionMode):
    """Listens to torch while it is on, and keeps what each softmax inside an attention gives."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[Tensor]] = {}
        self._place = ""

    def enter(self, place: str) -> Callable[..., None]:
        """A hook: from here on, a softmax belongs to the attention at `place`."""

        def hook(*_: Any) -> None:
            self._place = place
            self.found[place] = []

        return hook

    def leave(self, *_: Any) -> None:
        """A hook: from here on, a softmax belongs to nobody."""
        self._place = ""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if self._place and getattr(func, "__name__", "") == "softmax":
            self.found[self._place].append(result)
        return result


# --- Grad-CAM: which part of an image raises the logit of a class -----------------------------


def grad_cam(
    network: nn.Module, images: Tensor, classes: Tensor, places: Sequence[str]
) -> tuple[Tensor, ...]:
    """A map (B, H, W) for each of `places`: how much each position of what that module gives raises the
    logit of its image's class; nothing is below 0.

    Selvaraju et al., ICCV 2017, equations 1 and 2: the mean of the logit's gradient over a channel's
    positions weighs the channel; the weighted sum of the channels, cut off at 0, is the map. `images` are
    (B, 3, R, R), `classes` (B,), and each module gives (B, C, H, W). The network is in eval mode meanwhile.
    """
    features: dict[str, Tensor] = {}

    def keep(place: str) -> torch.utils.hooks.RemovableHandle:
        def hook(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            features[place] = output

        return network.get_submodule(place).register_forward_hook(hook)

    was_training = network.training
    hooks = [keep(place) for place in places]
    try:
        with torch.enable_grad():
            logits = network.eval()(images.detach().requires_grad_())
            chosen = logits.gather(1, classes[:, None]).sum()  # an image's logits depend on it alone
            gradients = torch.autograd.grad(chosen, [features[place] for place in places])
    finally:
        network.train(was_training)
        for handle in hooks:
            handle.remove()
    return tuple(
        F.relu((gradient.mean(dim=(2, 3), keepdim=True) * features[place]).sum(dim=1)).detach()
        for place, gradient in zip(places, gradients, strict=True)
    )


def stage_ends(network: Network) -> dict[str, str]:
    """The place of the last op of each stage, by the stage's name: {"stages.0": ...}, in order."""
    ends: dict[str, str] = {}
    for op in network.ops:
        stage = ".".join(op.place.split(".")[:2])
        if stage.startswith("stages."):
            ends[stage] = op.place
    return ends
