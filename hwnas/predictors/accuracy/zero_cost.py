"""Scores of the untrained network on the user's own images: no training, seconds a network.

`zero-cost:DATA` is the mean of all proxies in `proxies`, each in standard deviations among reference
networks; `zero-cost:DATA,proxy=zico` is one of them. The unit is `sd`: 0 is a usual network of the
default space, 1 is better than five in six. It is an order, not an accuracy: `learned` makes percents.

How good the order is: experiments/ground_truth.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, pstdev, stdev
from typing import TYPE_CHECKING

from hwnas.errors import UsageError
from hwnas.estimate import Estimate
from hwnas.predictors.accuracy._argument import parsed
from hwnas.predictors.accuracy._samples import Samples, open_samples
from hwnas.predictors.accuracy._scores import Score, Scores
from hwnas.predictors.accuracy.proxies import load_proxy, proxy_names
from hwnas.space.arch import ArchSpec
from hwnas.space.search_space import SearchSpace

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ZeroCost", "estimator", "scores"]

OPTIONS = {"proxy": "all", "images": 64, "inits": 2, "side": None, "stem": None, "journal": ""}
BATCHES = 4
"""That the images are parted into: ZiCo needs several."""
REFERENCES = 16
"""Random networks of the default space that set the scale of each proxy."""

Batches = Sequence[tuple["Tensor", "Tensor"]]


@dataclass(frozen=True, slots=True)
class ZeroCost:
    """Estimates an order of networks; made by `estimator`."""

    samples: Samples
    proxies: tuple[str, ...]
    images: int
    inits: int
    """Initialisations that each network is scored with."""
    kept: Scores = field(default_factory=Scores)
    """What was scored before."""
    _scales: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Mean and deviation of each proxy among the references; filled when first asked."""

    @property
    def unit(self) -> str:
        return "sd"

    def predict(self, arch: ArchSpec) -> Estimate:
        """The mean of the proxies over the initialisations, in deviations among the references.

        `std` is that mean's standard error: from how the proxies disagree (where there are several),
        and from how the initialisations do.
        """
        scales = self._reference_scales()
        rows = [
            [(score - scales[name][0]) / scales[name][1] for name, score in self.scores(arch, seed).items()]
            for seed in range(self.inits)
        ]
        by_init = [fmean(row) for row in rows]
        by_proxy = [fmean(column) for column in zip(*rows, strict=True)]
        variance = stdev(by_init) ** 2 / len(by_init) if len(by_init) > 1 else 0.0
        if len(by_proxy) > 1:
            variance += stdev(by_proxy) ** 2 / len(by_proxy)
        return Estimate(fmean(by_init), math.sqrt(variance), unit=self.unit)

    def scores(self, arch: ArchSpec, seed: int) -> dict[str, float]:
        """Each proxy's own number, for one initialisation; computed unless it is kept."""
        fitted = self.samples.adapted(arch)
        subject = self._subject(fitted, seed)
        missing = [name for name in self.proxies if name not in self.kept.of(subject)]
        if missing:
            found = scores(fitted, self._batches(fitted.resolution), missing, seed=seed)
            self.kept.add(subject, found)
        known = self.kept.of(subject)
        return {name: known[name].value for name in self.proxies}

    def cpu_seconds(self, arch: ArchSpec) -> float:
        """What the scores of a network took when they were computed, which `predict` must have asked for."""
        fitted = self.samples.adapted(arch)
        return sum(
            self.kept.of(self._subject(fitted, seed))[name].cpu_seconds
            for seed in range(self.inits)
            for name in self.proxies
        )

    def _subject(self, fitted: ArchSpec, seed: int) -> str:
        """What scores depend on beside the proxy."""
        return f"{fitted.id} {self.samples.digest} {self.images} {seed}"

    def _batches(self, side: int) -> Batches:
        pixels = self.samples.pixels("train", self.images, side)
        if len(pixels) < 2 * BATCHES:
            raise UsageError(f"proxies need at least {2 * BATCHES} images, got {len(pixels)}")
        return list(pixels.evaluation_batches(len(pixels) // BATCHES))[:BATCHES]

    def _reference_scales(self) -> Mapping[str, tuple[float, float]]:
        if not self._scales:
            rng, space = random.Random(0), SearchSpace.default()
            rows = [self.scores(space.sample(rng), 0) for _ in range(REFERENCES)]
            for name in self.proxies:
                found = [row[name] for row in rows]
                self._scales[name] = (fmean(found), pstdev(found) or 1.0)
        return self._scales


def scores(arch: ArchSpec, batches: Batches, proxies: Sequence[str], *, seed: int) -> dict[str, Score]:
    """Each proxy's score of a freshly initialised network of `arch`, which fits the batches.

    Raises UsageError, naming proxy and network, for a number that is not finite.
    """
    from hwnas.data.randomness import isolated
    from hwnas.nn import build
    from hwnas.nn.blocks import open_branches

    found = {}
    for name in proxies:
        started = time.process_time()
        with isolated(seed, "weights"):
            network = open_branches(build(arch))
        value = load_proxy(name).score(network, batches)
        if not math.isfinite(value):
            raise UsageError(
                f"a proxy must give a finite number, got {value} from '{name}' for network {arch.id}: "
                "look for images that are in the data twice, or name other proxies with proxy=..."
            )
        found[name] = Score(value, time.process_time() - started)
    return found


def estimator(argument: str | None = None) -> ZeroCost:
    """The estimator for `DATA` and OPTIONS: `DATA,proxy=NAME,images=64,side=32,stem=4`.

    `proxy` may be several names joined by +; `journal` names a file that keeps scores between
    processes. Raises UsageError for anything else, and for data that is none.
    """
    data, options = parsed("zero-cost", argument, OPTIONS)
    samples = open_samples("zero-cost", data, side=options["side"], stem_stride=options["stem"])
    names = proxy_names() if options["proxy"] == "all" else tuple(options["proxy"].split("+"))
    for name in names:
        load_proxy(name)
    kept = Scores(Path(options["journal"]) if options["journal"] else None)
    return ZeroCost(samples, names, options["images"], options["inits"], kept)
