"""Hard distillation: a second head learns the teacher's answers; both become one when it is done.

Training data-efficient image transformers & distillation through attention (Touvron et al., ICML
2021), equation 3: half of the loss is the cross-entropy with the labels, half that with the class the
teacher finds most likely in the same, already mixed, image. As in LeViT, which EfficientViT's
distilled networks follow, there is no token for it but a second linear head, and the network answers
with the mean of both. The mean of two linear layers is one linear layer: what is kept has the very
architecture that was asked for and costs nothing more. EleViT's double head is its own second head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from hwnas.errors import UsageError
from hwnas.nn.blocks import Head
from hwnas.nn.elevit_blocks import DualHead

__all__ = ["DistilledDualHead", "DistilledHead", "give_second_head", "loss", "merged"]

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
