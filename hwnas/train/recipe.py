"""Recipe: how a network is trained, as data. YAML in and out, checked at the edge.

What the network is belongs to the ArchSpec, which images it sees to the data folder; everything
else that decides the outcome of a training is here, and so inside every checkpoint.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from hwnas.data.loader import Augmentation
from hwnas.errors import FileFormatError, UsageError, did_you_mean
from hwnas.io import yaml as yaml_io
from hwnas.paths import is_text, user_path
from hwnas.space import ArchSpec

__all__ = [
    "FORMAT",
    "OPTIMIZERS",
    "PRECISIONS",
    "FlatRecipe",
    "Recipe",
    "TrainingRecipe",
    "from_plain",
    "from_text",
    "named_text",
    "outside",
    "read_recipe",
    "recipe_names",
    "shared_problems",
    "shipped",
    "to_plain",
]


# --- fields that all recipes share -----------------------------------------------------------


PRECISIONS = ("mixed", "bf16", "fp32")
OPTIMIZERS = ("adamw", "lion", "nadamw", "sgd")

_LIMITS: dict[str, tuple[float, float]] = {
    "epochs": (1, 100_000),
    "batch_size": (2, 1_000_000),  # BatchNorm has no statistics over one image
    "lr_batch_size": (1, 1_000_000),
    "min_lr": (0, 1e3),
    "warmup_lr": (0, 1e3),
    "warmup_epochs": (0, 100_000),
    "weight_decay": (0, 10),
    "clip_grad_norm": (0, 1e6),
    "horizontal_flip": (0, 1),
    "seed": (0, 2**63 - 1),
    "workers": (-1, 1024),
}


class TrainingRecipe(Protocol):
    """The fields that every training has; `Recipe` documents them. Read by `hwnas.train.trainer`."""

    @property
    def epochs(self) -> int: ...
    @property
    def optimizer(self) -> str: ...
    @property
    def peak_lr(self) -> float: ...
    @property
    def min_lr(self) -> float: ...
    @property
    def warmup_epochs(self) -> float: ...
    @property
    def warmup_lr(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def clip_grad_norm(self) -> float: ...
    @property
    def ema_decay(self) -> float: ...
    @property
    def precision(self) -> str: ...
    @property
    def seed(self) -> int: ...
    def to_dict(self) -> dict[str, Any]: ...
    @classmethod
    def from_dict(cls, data: Any, *, source: str = "recipe") -> Self: ...


class FlatRecipe:
    """The base of a frozen dataclass of int, float, str and bool that has at least the fields below.

    Construction raises UsageError with every broken rule, a line each.
    """

    __slots__ = ()

    # Declared for the type checker; the dataclasses define them, with defaults of their own.
    epochs: int
    batch_size: int
    lr: float
    lr_batch_size: int
    min_lr: float
    warmup_epochs: float
    warmup_lr: float
    weight_decay: float
    clip_grad_norm: float
    ema_decay: float
    horizontal_flip: float
    image_size: int
    stem_stride: int
    precision: str
    optimizer: str
    seed: int
    workers: int

    def __post_init__(self) -> None:
        problems = [*shared_problems(self), *self.problems()]
        if problems:
            raise UsageError("\n".join(f"recipe: {problem}" for problem in problems))

    def problems(self) -> Iterator[str]:
        """A sentence for each broken rule of the fields that only this kind of recipe has."""
        raise NotImplementedError

    @property
    def peak_lr(self) -> float:
        """The learning rate after warm-up, for this batch size."""
        return self.lr * self.batch_size / self.lr_batch_size

    def adapted(self, arch: ArchSpec, *, classes: int | None = None) -> ArchSpec:
        """The network that this recipe trains: its image size and stem stride where it sets them."""
        return arch.adapted(
            resolution=self.image_size or None, stem_stride=self.stem_stride or None, classes=classes
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data with every field, so that a later change of a default changes no recipe."""
        return to_plain(self)

    def to_yaml(self) -> str:
        """The text of a recipe file."""
        return yaml_io.dump(self.to_dict())

    @classmethod
    def from_dict(cls, data: Any, *, source: str = "recipe") -> Self:
        """The recipe in plain data; raises UsageError with a line for each mistake and its field."""
        return from_plain(cls, data, source=source)

    @classmethod
    def from_yaml(cls, text: str, *, source: str = "recipe") -> Self:
        """The recipe in the text of a file; raises UsageError as `from_dict` does."""
        return from_text(cls, text, source=source)


def shared_problems(recipe: Any) -> Iterator[str]:
    """A sentence for each broken rule of the fields that trainings share, as far as the recipe has them."""
    yield from outside(recipe, {name: span for name, span in _LIMITS.items() if hasattr(recipe, name)})
    if not (math.isfinite(recipe.lr) and 0 < recipe.lr <= 1e3):
        yield f"lr: must be above 0 and at most 1000, got {recipe.lr}"
    if not 0 <= recipe.ema_decay < 1:
        yield f"ema_decay: must be at least 0 and below 1, got {recipe.ema_decay}"
    if getattr(recipe, "stem_stride", 0) not in (0, 2, 4, 8, 16):
        yield f"stem_stride: must be 0, 2, 4, 8 or 16, got {recipe.stem_stride}"
    if recipe.warmup_epochs > recipe.epochs:
        yield (
            f"warmup_epochs: must be at most epochs, got warmup_epochs={recipe.warmup_epochs:g} "
            f"and epochs={recipe.epochs}"
        )
    for name, known in (("precision", PRECISIONS), ("optimizer", OPTIMIZERS)):
        if getattr(recipe, name) not in known:
            yield f"{name}: must be one of {', '.join(known)}, got '{getattr(recipe, name)}'"


# --- classifier recipe ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recipe(FlatRecipe):
    """How to train. Construction raises UsageError with every broken rule, a line each."""

    epochs: int
    """Passes over the training images."""
    batch_size: int
    """Images an update of the weights sees."""
    lr: float
    """Peak learning rate for a batch of `lr_batch_size` images."""
    lr_batch_size: int = 512
    """The peak learning rate is `lr * batch_size / lr_batch_size`."""
    min_lr: float = 1e-5
    """Learning rate that the cosine ends at."""
    warmup_epochs: float = 5.0
    """Epochs of linear warm-up."""
    warmup_lr: float = 1e-6
    """Learning rate that the warm-up starts from."""
    weight_decay: float = 0.025
    """Decoupled weight decay of matrices and kernels; biases, norms and attention biases have none."""
    clip_grad_norm: float = 0.0
    """The gradient's norm is cut to this; 0 leaves it."""
    mixup_alpha: float = 0.0
    """Parameter of mixup's Beta distribution; 0 is without."""
    cutmix_alpha: float = 0.0
    """Parameter of CutMix's Beta distribution; 0 is without. With mixup on too, each has half the batches."""
    label_smoothing: float = 0.0
    """Probability mass spread over all classes."""
    random_erasing: float = 0.0
    """Probability that a rectangle of an image is erased."""
    auto_augment: str = ""
    """timm's policy string, for example `rand-m9-mstd0.5-inc1`; empty is without."""
    color_jitter: float = 0.0
    """Strength of brightness, contrast and saturation jitter; timm leaves it out with auto_augment."""
    crop_scale_min: float = 0.08
    """A random crop covers from this share of the image to all of it."""
    horizontal_flip: float = 0.5
    """Probability of a mirrored image."""
    eval_crop: float = 0.875
    """Side of the centre crop over the side that evaluation resizes to."""
    ema_decay: float = 0.0
    """Decay of the moving average of the weights per update, reached gradually; 0 keeps none."""
    image_size: int = 0
    """Side of the images in pixels; 0 takes the architecture's resolution."""
    stem_stride: int = 0
    """Image side over feature-map side after the stem; 0 takes the architecture's."""
    precision: str = "mixed"
    """`mixed`: bfloat16 (or float16) matrix work on a GPU, float32 on a CPU. `bf16`: bfloat16 matrix
    work on a CPU, too. `fp32`: float32 everywhere."""
    optimizer: str = "adamw"
    """timm's name of the optimiser: adamw, lion, nadamw or sgd (with momentum 0.9)."""
    accumulate: int = 1
    """Parts that a batch is computed in, one after the other, where the whole does not fit into memory.
    The update is of the whole batch; BatchNorm sees a part at a time."""
    compile: bool = False
    """Whether torch.compile turns the network into code of its own, which takes a minute at the start."""
    teacher: str = ""
    """Whose answers are learnt beside the labels: a checkpoint of hwnas, `timm:NAME` or
    `timm:NAME:FILE.safetensors`; empty is without. See `hwnas.train.distillation`."""
    teacher_share: float = 0.5
    """Share of the teacher's answers in the loss; the labels have the rest."""
    seed: int = 0
    """Decides the initial weights, the order of the images and every augmentation."""
    workers: int = -1
    """Decoding processes; 0 decodes in the training process, -1 takes one per spare core, at most 8.
    Does not change the outcome."""

    @property
    def augmentation(self) -> Augmentation:
        """How images are cropped and changed."""
        return Augmentation(
            crop_scale_min=self.crop_scale_min,
            horizontal_flip=self.horizontal_flip,
            color_jitter=self.color_jitter,
            auto_augment=self.auto_augment,
            random_erasing=self.random_erasing,
            eval_crop=self.eval_crop,
        )

    def problems(self) -> Iterator[str]:
        """A sentence for each broken rule of what only classifiers' recipes have."""
        yield from outside(
            self,
            {
                "mixup_alpha": (0, 100),
                "cutmix_alpha": (0, 100),
                "random_erasing": (0, 1),
                "color_jitter": (0, 1),
                "accumulate": (1, 1_000_000),
                "teacher_share": (0, 1),
                "image_size": (0, 2048),
            },
        )
        if not 0 <= self.label_smoothing < 1:
            yield f"label_smoothing: must be at least 0 and below 1, got {self.label_smoothing}"
        for name in ("crop_scale_min", "eval_crop"):
            if not 0 < getattr(self, name) <= 1:
                yield f"{name}: must be above 0 and at most 1, got {getattr(self, name)}"
        if self.accumulate > 1 and self.batch_size < 2 * self.accumulate:
            yield (
                f"accumulate: each part of a batch must hold 2 images, got batch_size={self.batch_size} "
                f"and accumulate={self.accumulate}"
            )


def recipe_names() -> tuple[str, ...]:
    """The recipes that come with hwnas."""
    return shipped(_folder())


def read_recipe(name_or_path: str) -> Recipe:
    """A recipe by its name or from a YAML file; raises UsageError when there is none such."""
    return Recipe.from_yaml(named_text(name_or_path, _folder()), source=name_or_path)


def _folder() -> Path:
    return Path(__file__).parent / "recipes"


# --- reading recipe files --------------------------------------------------------------------


FORMAT = 1  # 1: the first one

_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}

AnyRecipe = TypeVar("AnyRecipe")


def to_plain(recipe: Any) -> dict[str, Any]:
    """Plain data with every field, so that a later change of a default changes no recipe."""
    return {"format": FORMAT, **dataclasses.asdict(recipe)}


def from_plain(cls: type[AnyRecipe], data: Any, *, source: str) -> AnyRecipe:
    """The recipe in plain data; `cls` is a dataclass of int, float, str and bool.

    Raises UsageError with a line for each mistake and its field.
    """
    if not isinstance(data, Mapping):
        raise UsageError(f"{source}: a recipe must be a mapping, got {type(data).__name__}")
    specs = {spec.name: spec for spec in dataclasses.fields(cls)}  # type: ignore[arg-type]
    problems: list[str] = []
    values: dict[str, Any] = {}
    version = data.get("format")
    if type(version) is not int or not 1 <= version <= FORMAT:
        newer = type(version) is int and version > FORMAT
        problems.append(
            f"format: this hwnas reads {FORMAT}, got {version!r}" + (": upgrade hwnas" if newer else "")
        )
    for name, value in data.items():
        if name == "format":
            continue
        if name not in specs:
            problems.append(f"{name}: no such field.{did_you_mean(str(name), specs)}")
            continue
        wanted = {"int": int, "float": float, "str": str, "bool": bool}[str(specs[name].type)]
        if wanted is float and type(value) is int and abs(value) < 2**64:
            value = float(value)
        if type(value) is not wanted:  # bool is an int for isinstance
            problems.append(f"{name}: must be {_WORDS[wanted]}, got {value!r} ({type(value).__name__})")
            continue
        values[name] = value
    for name, spec in specs.items():
        if spec.default is dataclasses.MISSING and name not in data:
            problems.append(f"{name}: is required")
    if not problems:
        try:
            return cls(**values)
        except UsageError as error:
            problems = [line.removeprefix("recipe: ") for line in str(error).splitlines()]
    raise UsageError("\n".join(f"{source}: {problem}" for problem in problems))


def from_text(cls: type[AnyRecipe], text: str, *, source: str) -> AnyRecipe:
    """The recipe in the text of a YAML file; raises UsageError as `from_plain` does."""
    try:
        data = yaml_io.parse(text, source=source)
    except FileFormatError as error:
        raise UsageError(str(error)) from None
    return from_plain(cls, data, source=source)


def outside(recipe: object, limits: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    """A sentence for each field that is not from its lowest to its highest value."""
    for name, (low, high) in limits.items():
        value = getattr(recipe, name)
        if not low <= value <= high:  # also true of NaN
            yield f"{name}: must be from {low} to {high}, got {value}"


def shipped(folder: Path) -> tuple[str, ...]:
    """The names of the recipes in a folder."""
    return tuple(sorted(file.stem for file in folder.glob("*.yaml")))


def named_text(name_or_path: str, folder: Path) -> str:
    """The text of the recipe of this name in the folder, or of a YAML file; raises UsageError when
    there is none such."""
    names = shipped(folder)
    if name_or_path in names:
        path = folder / f"{name_or_path}.yaml"
    else:
        path = user_path(name_or_path)
        if not is_text(path) and path.suffix.lower() not in (".yaml", ".yml", ".json"):
            raise UsageError(
                f"no recipe '{name_or_path}'.{did_you_mean(name_or_path, names)} "
                f"Known: {', '.join(names)}, or a .yaml file"
            )
    try:
        return yaml_io.read_text(path)
    except FileFormatError as error:
        raise UsageError(f"recipe {error}") from None
