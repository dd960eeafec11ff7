"""Top-1 on ImageNet-1K from what the families' papers published: no data, no GPU, no training.

A Bayesian linear regression of ln(top-1 error) on the numbers of `_published_features`, with the
beliefs written there. Fourteen networks and seven variants of theirs say how accuracy goes with size
and with the attention; what they say nothing of is not rewarded, but makes an estimate less sure. So a
search that maximises `value - std` stays near what is known, or leaves it only for a clear gain.

Nothing was published of small images. A network of less than 160 pixels gets the estimate of the same
blocks at 224 pixels behind a stem of stride 16: an order of blocks for one image size, no accuracy on small
images. It says nothing of which image size is better; a search of several small ones is refused.

How good it is: experiments/accuracy_published.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import UsageError
from hwnas.estimate import Estimate
from hwnas.io import yaml as yaml_io
from hwnas.predictors.accuracy._published_features import FEATURES, SpaceDescriber, describe
from hwnas.space.arch import ArchSpec, Attention, SingleHead
from hwnas.space.presets import preset, presets
from hwnas.space.search_space import SearchSpace
from hwnas.types import Floats, Ints

__all__ = ["PublishedAccuracy", "PublishedRow", "estimator", "fit", "published_rows"]

FAMILIES = ("efficientvit", "shvit", "uniform")
"""Families whose papers give ImageNet-1K results; EleViT's has none."""
REFERENCE_ERROR_PERCENT = 27.0
MOST_ERROR_PERCENT = 99.9
NOISE = 0.012
"""Standard deviation of one published ln(error): 0.3 points at 74 %, for seeds and recipes."""
SMALLEST_RESOLUTION = 160
"""Below, a network is estimated by its blocks at `KNOWN_RESOLUTION` and `KNOWN_STRIDE`."""
KNOWN_RESOLUTION, KNOWN_STRIDE = 224, 16
INTERVAL_DEVIATIONS = 1.645
"""`low` to `high` holds 90 %."""


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One network that was trained on ImageNet-1K, and its published result."""

    network: str
    """The preset that it is, or that it varies."""
    family: str
    arch: ArchSpec
    top1_percent: float
    source: str
    variant: bool = False
    """Whether it is a variant of the preset rather than the preset itself."""


@dataclass(frozen=True, slots=True)
class PublishedAccuracy:
    """Estimates top-1 in percent; made by `fit`."""

    effects: NDArray[np.float64]
    """Posterior mean of each feature's effect on ln(error), (features,)."""
    root: NDArray[np.float64]
    """Lower Cholesky factor of the posterior covariance, (features, features)."""
    _describers: dict[int, tuple[SearchSpace, SpaceDescriber]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """By the id of the space, which each keeps alive."""

    @property
    def unit(self) -> str:
        return "%"

    @property
    def cheap(self) -> bool:
        """An answer takes a fraction of a millisecond."""
        return True

    @property
    def in_arrays(self) -> bool:
        return True

    def predict(self, arch: ArchSpec) -> Estimate:
        """Top-1 accuracy on ImageNet-1K, in percent, trained 300 epochs as the papers do.

        `std` grows with the distance from the published networks; `low` and `high` hold 90 %. They
        are not symmetric: an error in percent can't fall below 0. For a network of less than
        `SMALLEST_RESOLUTION` pixels it is the estimate of the same blocks at ImageNet's size.
        """
        if arch.resolution < SMALLEST_RESOLUTION:
            arch = _at_known_size(arch)
        values, stds = self.values(describe(arch)[None])
        return self.estimate(float(values[0]), float(stds[0]))

    def predict_many(self, encoded: Ints, space: SearchSpace) -> tuple[Floats, Floats]:
        """`value` and `std` of many networks, (n,) each, for vectors of a space, shape (n, decisions)."""
        known = self._describers.get(id(space))
        if known is None:  # the space is kept with it: its id stays its own
            known = self._describers[id(space)] = (space, SpaceDescriber(_space_at_known_size(space)))
        vectors = np.asarray(encoded, dtype=np.int64)
        if known[1].space is not space:  # described at the one known size, whatever theirs is
            vectors = vectors.copy()
            vectors[:, [each.name in ("resolution", "stem_stride") for each in space.decisions]] = 0
        return self.values(known[1].describe(vectors))

    def estimate(self, value: float, std: float) -> Estimate:
        """The estimate with this value and standard deviation: its interval is that of ln(error)."""
        error = 100 - value
        step = math.exp(INTERVAL_DEVIATIONS * std / error)
        low, high = (100 - min(each, MOST_ERROR_PERCENT) for each in (error * step, error / step))
        return Estimate(value=value, std=std, low=low, high=high, unit="%")

    def values(self, numbers: Floats) -> tuple[Floats, Floats]:
        """Value and standard deviation, (n,) each, from the numbers of `describe`, (n, features)."""
        spread = np.sqrt(np.square(numbers @ self.root).sum(axis=1) + NOISE**2)
        error = np.minimum(REFERENCE_ERROR_PERCENT * np.exp(numbers @ self.effects), MOST_ERROR_PERCENT)
        return 100 - error, error * spread

    def remark(self, space: SearchSpace) -> str:
        """What a reader of a search in this space must know of the estimates; empty for nothing.

        Raises UsageError for a space of several image sizes or stems whose accuracies cannot be compared.
        """
        if min(space.resolution) >= SMALLEST_RESOLUTION:
            return ""
        sizes, strides = (", ".join(map(str, numbers)) for numbers in (space.resolution, space.stem_stride))
        if len(space.resolution) > 1 or len(space.stem_stride) > 1:
            raise UsageError(
                f"the accuracy estimator 'published' cannot compare {sizes} px and stem strides {strides}: "
                f"no results are published below {SMALLEST_RESOLUTION} px. Search one size "
                "(--image-size N --stem-stride S), or use another estimator (--accuracy)"
            )
        return (
            f"No results are published for {sizes} px: 'published' orders networks by the ImageNet accuracy "
            f"of the same blocks at {KNOWN_RESOLUTION} px, stem stride {KNOWN_STRIDE}. It is no accuracy "
            "on your images."
        )


def estimator(argument: str | None = None) -> PublishedAccuracy:
    """The estimator fitted on all published rows; it takes no argument."""
    if argument is not None:
        raise UsageError(f"the accuracy estimator 'published' takes no argument, got '{argument}'")
    return _fitted()


def published_rows() -> tuple[PublishedRow, ...]:
    """All published results: the presets' own first, then their variants."""
    rows = [
        PublishedRow(name, info.family, info.arch, info.imagenet_top1_percent, info.paper)
        for name, info in presets().items()
        if info.family in FAMILIES and info.imagenet_top1_percent is not None
    ]
    families = {row.network: row.family for row in rows}
    for variant in yaml_io.read(Path(__file__).with_name("_published_variants.yaml")):
        name = variant["of"]
        arch = _varied(preset(name), variant)
        rows.append(
            PublishedRow(name, families[name], arch, variant["top1_percent"], variant["source"], variant=True)
        )
    return tuple(rows)


def fit(rows: Sequence[PublishedRow]) -> PublishedAccuracy:
    """The posterior given these rows and the beliefs in FEATURES."""
    numbers = np.array([describe(row.arch) for row in rows])
    errors = np.array([100 - row.top1_percent for row in rows])
    believed = np.array([feature.mean for feature in FEATURES])
    precision = np.diag([feature.std**-2 for feature in FEATURES])
    surprise = np.log(errors / REFERENCE_ERROR_PERCENT) - numbers @ believed
    covariance = np.linalg.inv(precision + numbers.T @ numbers / NOISE**2)
    effects = believed + covariance @ (numbers.T @ surprise) / NOISE**2
    root = np.linalg.cholesky((covariance + covariance.T) / 2)
    return PublishedAccuracy(effects=effects, root=np.asarray(root, dtype=np.float64))


@lru_cache(maxsize=1)
def _fitted() -> PublishedAccuracy:
    return fit(published_rows())


def _space_at_known_size(space: SearchSpace) -> SearchSpace:
    """The space whose networks are described: encodings keep their meaning, as the size is one value."""
    if min(space.resolution) >= SMALLEST_RESOLUTION:
        return space
    stride = KNOWN_STRIDE if all(width % 8 == 0 for width in space.stages[0].width) else None
    return space.adapted(resolution=KNOWN_RESOLUTION, stem_stride=stride)


def _at_known_size(arch: ArchSpec) -> ArchSpec:
    stride = KNOWN_STRIDE if arch.stem.kind == "conv" and not arch.stages[0].width % 8 else None
    return arch.adapted(resolution=KNOWN_RESOLUTION, stem_stride=stride)


def _varied(arch: ArchSpec, variant: dict[str, Any]) -> ArchSpec:
    """The preset with what the row of `_published_variants.yaml` says changed."""

    def changed(attention: Attention | None, width: int) -> Attention | None:
        if variant.get("attention") == "none" or attention is None:
            return None
        if "partial" in variant and isinstance(attention, SingleHead):
            return dataclasses.replace(attention, channels=width // variant["partial"])
        return attention

    stages = tuple(
        dataclasses.replace(stage, blocks=tuple(changed(block, stage.width) for block in stage.blocks))
        for stage in arch.stages
    )
    return dataclasses.replace(arch, stages=stages).adapted(resolution=variant.get("resolution"))
