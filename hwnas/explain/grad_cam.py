"""Grad-CAM: which part of an image speaks for a class, at the end of each stage."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.nn.network import Network

__all__ = ["grad_cam", "stage_ends"]


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
