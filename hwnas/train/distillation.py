"""Hard distillation: a second head learns the teacher's answers; both become one when it is done.

Training data-efficient image transformers & distillation through attention (Touvron et al., ICML
2021), equation 3: half of the loss is the cross-entropy with the labels, half that with the class the
teacher finds most likely in the same, already mixed, image. As in LeViT, which EfficientViT's
distilled networks follow, there is no token for it but a second linear head, and the network answers
with the mean of both. The mean of two linear layers is one linear layer: what is kept has the very
architecture that was asked for and costs nothing more. EleViT's double head is its own second head.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from hwnas import plugins
from hwnas.errors import FileFormatError, UsageError
from hwnas.nn.blocks import Head
from hwnas.nn.elevit_blocks import DualHead

__all__ = [
    "DistilledDualHead",
    "DistilledHead",
    "Teacher",
    "give_second_head",
    "load_teacher",
    "loss",
    "merged",
]

_SECOND = "head.teacher."


class DistilledHead(Head):
    """`Head` with a second Linear for the teacher's answers.

    Shape: (B, C, H, W) -> (B, 2, classes) in train mode, labels first; else their mean (B, classes).
    """

    def __init__(self, head: Head) -> None:
        nn.Module.__init__(self)
        self.norm, self.linear = head.norm, head.linear
        self.teacher = nn.Linear(head.linear.in_features, head.linear.out_features)
        self.teacher.load_state_dict(head.linear.state_dict())  # the same start: also a trained one's

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.norm(F.adaptive_avg_pool2d(x, 1).flatten(1))  # (B, C)
        return _both(self.linear(mean), self.teacher(mean), self.training)


class DistilledDualHead(DualHead):
    """`DualHead` that gives both answers. Shape: as `DistilledHead`."""

    def __init__(self, head: DualHead) -> None:
        nn.Module.__init__(self)
        self.linear, self.distilled = head.linear, head.distilled

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = F.adaptive_avg_pool2d(x, 1).flatten(1)  # (B, C)
        return _both(self.linear(mean), self.distilled(mean), self.training)


def give_second_head(network: nn.Module) -> None:
    """Replace the network's head by one that answers twice. Raises UsageError for an unknown head."""
    head = getattr(network, "head", None)
    if isinstance(head, Head):
        network.head = DistilledHead(head)
    elif isinstance(head, DualHead):
        network.head = DistilledDualHead(head)
    else:
        raise UsageError(f"only networks of hwnas.nn learn from a teacher, got a {type(network).__name__}")


def loss(
    logits: torch.Tensor, targets: torch.Tensor, answers: torch.Tensor, criterion: nn.Module, share: float
) -> torch.Tensor:
    """The loss of both heads' logits (B, 2, classes); `answers` (B,) are the teacher's classes."""
    own: torch.Tensor = criterion(logits[:, 0], targets)
    return (1 - share) * own + share * F.cross_entropy(logits[:, 1], answers)


def merged(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict with the architecture's own keys: two linear layers become their mean."""
    second = {
        name.removeprefix(_SECOND): weight for name, weight in state.items() if name.startswith(_SECOND)
    }
    if not second:
        return state
    kept = {name: weight for name, weight in state.items() if not name.startswith(_SECOND)}
    return kept | {
        f"head.linear.{name}": (kept[f"head.linear.{name}"] + weight) / 2 for name, weight in second.items()
    }


def _both(own: torch.Tensor, teachers: torch.Tensor, training: bool) -> torch.Tensor:
    return torch.stack([own, teachers], dim=1) if training else (own + teachers) / 2


# --- teacher ----------------------------------------------------------------------------------
#     FOLDER or FILE.safetensors      a checkpoint of hwnas, trained on the same classes
#     timm:NAME                       timm's published weights, fetched by timm when not on the disk
#     timm:NAME:FILE.safetensors      timm's network with the weights of a file
#
# DeiT (Touvron et al., 2021) and EfficientViT's section 4.3 use RegNetY-16GF: `timm:regnety_160.deit_in1k`.

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what the training's images have


class Teacher(nn.Module):
    """The class that a trained network finds most likely, never trained itself.

    Images come as the training has them; they are brought to the size (0 leaves it) and the
    normalisation that the network wants. Shape: (B, 3, H, W) -> (B,), int64.
    """

    factor: torch.Tensor
    shift: torch.Tensor

    def __init__(
        self,
        network: nn.Module,
        size: int,
        mean: Sequence[float] = _MEAN,
        deviation: Sequence[float] = _DEVIATION,
    ) -> None:
        super().__init__()
        self.network, self.size = network.eval().requires_grad_(False), size
        old, new = (
            (torch.tensor(m).view(1, 3, 1, 1), torch.tensor(d).view(1, 3, 1, 1))
            for m, d in ((_MEAN, _DEVIATION), (mean, deviation))
        )
        self.register_buffer("factor", old[1] / new[1])
        self.register_buffer("shift", (old[0] - new[0]) / new[1])

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.size and images.shape[-1] != self.size:
            images = F.interpolate(images, size=(self.size, self.size), mode="bilinear", antialias=True)
        answers: torch.Tensor = self.network(images * self.factor + self.shift).argmax(dim=1)
        return answers

    def train(self, mode: bool = True) -> Teacher:
        """Stays in eval mode."""
        return super().train(False)


def load_teacher(name: str, classes_names: Sequence[str]) -> Teacher:
    """The teacher that a recipe names.

    Raises UsageError when it doesn't exist, cannot be fetched or knows other classes,
    FileFormatError when its file is damaged.
    """
    if name.startswith("timm:"):
        return _from_timm(name, len(classes_names))
    from hwnas.train.checkpoint import load, trained_network

    given = load(name)
    if given.classes_names != tuple(classes_names):
        raise UsageError(
            f"teacher {name}: must have the classes of the training data, got {len(given.classes_names)} "
            f"('{given.classes_names[0]}' first) for {len(classes_names)} ('{classes_names[0]}' first)"
        )
    return Teacher(trained_network(given), given.arch.resolution)


def _from_timm(name: str, classes: int) -> Teacher:
    timm: Any = plugins.require("timm", extra="torch")
    _, model, *file = name.split(":", 2)
    if not timm.is_model(model.partition(".")[0]):
        raise UsageError(f"teacher {name}: timm has no network '{model}': timm.list_models() names them")
    try:
        if file:
            network = timm.create_model(model, num_classes=classes)
        else:
            network = timm.create_model(model, pretrained=True)
    except (OSError, RuntimeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"teacher {name}: cannot be fetched: {first}: give the weights as {name}:FILE.safetensors"
        ) from None
    if file:
        from hwnas.train.init_weights import read_tensors

        try:
            network.load_state_dict(read_tensors(Path(file[0])))
        except RuntimeError as error:
            raise FileFormatError(
                f"{file[0]}: not the weights of {model} for {classes} classes: {error}"
            ) from None
    if network.num_classes != classes:
        raise UsageError(
            f"teacher {name}: must have the classes of the training data, got {network.num_classes} for "
            f"{classes}: train it on this data first, and give its weights as a file"
        )
    wanted = network.pretrained_cfg
    size = wanted["input_size"][-1] if wanted.get("fixed_input_size") else 0
    return Teacher(network, size, wanted["mean"], wanted["std"])
