"""Settings: how shared weights are trained, as data. Which networks share them is the search space's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hwnas.errors import UsageError
from hwnas.train import recipe as fields

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How to train a supernet. Construction raises UsageError with every broken rule, a line each."""

    epochs: int = 30
    """Passes over the training images; each update trains several networks on its batch."""
    batch_size: int = 128
    """Images an update sees."""
    lr: float = 1e-3
    """Peak learning rate of AdamW, at this batch size; a cosine leads down to 0."""
    warmup_epochs: float = 1.0
    """Epochs of linear warm-up."""
    weight_decay: float = 0.025
    """Of matrices and kernels; norms, biases and tables of attention biases have none."""
    label_smoothing: float = 0.1
    """Probability mass spread over all classes, in the loss on labels."""
    clip_grad_norm: float = 1.0
    """The norm of the gradient of all networks of an update together is cut to this; 0 leaves it."""
    ema_decay: float = 0.0
    """Decay of the moving average of the shared weights per update, reached gradually; 0 keeps none."""
    teacher_share: float = 0.5
    """Share of the largest network's answers in the loss of the others; the labels have the rest."""
    random_networks: int = 2
    """Networks that an update trains besides the largest and the smallest."""
    branch_weight: float = 0.0
    """What BatchNorm's weight starts at where it ends a branch. 0: each block starts as the identity, as in a
    network trained alone, and opens slowly, because few networks of an update have it; until it has, all
    networks answer as stem, downsampling and head alone do. Above 0 blocks are at work from the start."""
    max_macs: float = 0.0
    """No network beyond so many MACs (at the supernet's image size) is trained; 0 is without a limit."""
    held_back: int = 1000
    """Training images that are not trained on, equally many of each class: accuracy is measured on them."""
    calibration_images: int = 512
    """Training images that BatchNorm's statistics are taken on, for each network anew."""
    precision: str = "mixed"
    """`mixed`: bfloat16 (or float16) matrix work on a GPU, float32 on a CPU. `bf16`: bfloat16 on a CPU,
    too. `fp32`: float32 everywhere."""
    compile: bool = False
    """Whether torch.compile turns the largest and the smallest networks into code of their own, once;
    random ones come and go too fast for that."""
    seed: int = 0
    """Decides the first weights, the order of images, their augmentation, and which networks are drawn."""

    def __post_init__(self) -> None:
        own: dict[str, tuple[float, float]] = {
            "teacher_share": (0, 1),
            "random_networks": (0, 64),
            "branch_weight": (0, 1),
            "max_macs": (0, 1e15),
            "held_back": (2, 1_000_000),
            "calibration_images": (2, 1_000_000),
        }
        problems = [*fields.shared_problems(self), *fields.outside(self, own)]
        if not 0 <= self.label_smoothing < 1:
            problems.append(f"label_smoothing: must be at least 0 and below 1, got {self.label_smoothing}")
        if problems:
            raise UsageError("\n".join(f"supernet: {problem}" for problem in problems))

    @property
    def optimizer(self) -> str:
        """The name of the optimiser; see `hwnas.train.optim`."""
        return "adamw"

    @property
    def peak_lr(self) -> float:
        """The learning rate after warm-up."""
        return self.lr

    @property
    def min_lr(self) -> float:
        """Learning rate that the cosine ends at."""
        return 0.0

    @property
    def warmup_lr(self) -> float:
        """Learning rate that the warm-up starts from."""
        return min(1e-6, self.lr)

    def to_dict(self) -> dict[str, Any]:
        """Plain data with every field."""
        return fields.to_plain(self)

    @classmethod
    def from_dict(cls, data: Any, *, source: str = "settings") -> Settings:
        """The settings that `to_dict` wrote; raises UsageError with a line for each mistake."""
        return fields.from_plain(cls, data, source=source)
