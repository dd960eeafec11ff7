"""From the sum of ops timed alone to the network they make up.

An op timed alone keeps its weights in the cache and pays the call into the runtime itself; inside
a network it does neither. So a network takes

    offset + sum over its ops of (scale of the op's kind * the op's own milliseconds + per-op overhead)
           + cold * max(0, the network's weights - cache)

with scales and `cold` that are not negative: a network whose weights fit the cache runs like its ops
alone, a larger one fetches what does not fit again in every run. All are fitted on whole networks with
relative errors, the scales drawn towards one common scale (ridge), since a few dozen networks can't
tell every kind apart. The ridge and the size of the cache are chosen by leaving networks out. What is
left is smooth in the size of a network, and goes into a factor near 1 (see residual.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hwnas.predictors.latency.residual import Residual, fit_residual
from hwnas.space.ops import OpSpec
from hwnas.types import Floats

__all__ = ["CACHES_MIB", "RIDGES", "Calibration", "Composition", "Fitted", "compose", "fit_calibration"]

RIDGES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5)
"""How strongly scales may be drawn together; the fit picks one by leaving networks out."""


CACHES_MIB = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""How many MiB of weights may stay in the cache; the fit picks one by leaving networks out."""


RESIDUAL_FROM = 20
"""Networks below which nothing is learnt from what the sums get wrong."""


@dataclass(frozen=True, slots=True)
class Composition:
    """A network as calibration sees it."""

    kinds: Mapping[str, tuple[float, int]]
    """Kind -> (sum of its ops' own milliseconds, how many they are)."""
    weight_mib: float
    """All weights of the network, in MiB."""
    activation_mib: float = 0.0
    """All activations that its ops read and write, in MiB."""
    nodes: float = 0.0
    """Nodes that are executed."""

    @property
    def features(self) -> tuple[float, ...]:
        """What the residual is a function of, in the order of residual.FEATURES."""
        own_ms = sum(milliseconds for milliseconds, _ in self.kinds.values())
        return own_ms, self.weight_mib, self.activation_mib, self.nodes


def compose(ops: Iterable[OpSpec], own_ms: Callable[[OpSpec], float]) -> Composition:
    """The composition of the network that runs these ops; `own_ms` says what each takes alone."""
    kinds: dict[str, tuple[float, int]] = {}
    weight_bytes = activation_bytes = nodes = 0
    for op in ops:
        before, count = kinds.get(op.kind, (0.0, 0))
        kinds[op.kind] = (before + own_ms(op), count + 1)
        weight_bytes += op.weight_bytes()
        activation_bytes += op.activation_bytes()
        nodes += op.nodes
    return Composition(kinds, weight_bytes / 2**20, activation_bytes / 2**20, nodes)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What turns an op's own milliseconds into its share of a network's."""

    scales: Mapping[str, float] = field(default_factory=dict)
    """By op kind, at least 0."""
    common_scale: float = 1.0
    """For kinds that no calibrating network had."""
    offset_ms: float = 0.0
    """Once a network."""
    per_op_ms: float = 0.0
    """Once an op; negative where calling the runtime costs more than being one node more."""
    cold_ms_per_mib: float = 0.0
    """For each MiB of weights that does not stay in the cache."""
    cache_mib: float = 0.0
    """How much of the weights stays there."""
    networks: int = 0
    """How many whole networks it was fitted on."""
    residual: Residual = Residual()
    """What the sum is multiplied with in the end."""

    def overhead_ms(self, weight_mib: float) -> float:
        """What a network with so many weights takes besides its ops' shares."""
        return self.offset_ms + self.cold_ms_per_mib * max(weight_mib - self.cache_mib, 0.0)

    def op_ms(self, kind: str, own_ms: float) -> float:
        """What an op that takes `own_ms` alone adds to a network."""
        return max(self.scales.get(kind, self.common_scale) * own_ms + self.per_op_ms, 0.0)

    def network_ms(self, composition: Composition) -> float:
        """The milliseconds of a whole network."""
        shares = sum(
            self.scales.get(kind, self.common_scale) * own_ms + self.per_op_ms * count
            for kind, (own_ms, count) in composition.kinds.items()
        )
        total = shares + self.overhead_ms(composition.weight_mib)
        return total * self.residual.factor(composition.features)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A calibration, and how well it does on networks that it was not fitted on."""

    calibration: Calibration
    left_out_ms: tuple[float, ...]
    """Each network as a calibration predicts it that was fitted without it."""


def fit_calibration(
    networks: Sequence[Composition],
    measured_ms: Sequence[float],
    *,
    smallest_op_ms: float,
    ridges: Sequence[float] = RIDGES,
    caches_mib: Sequence[float] = CACHES_MIB,
) -> Fitted:
    """The calibration that explains whole networks.

    `smallest_op_ms` is the fastest row: the per-op overhead stays above -0.4 of what it comes to,
    so that no op ever takes less than nothing. Needs at least 4 networks; raises ValueError below.
    """
    if len(networks) < 4:
        raise ValueError(f"calibration needs at least 4 whole networks, got {len(networks)}")
    kinds = sorted({kind for network in networks for kind in network.kinds})
    problem = _Problem(
        kinds=kinds,
        sums=np.array([[network.kinds.get(kind, (0.0, 0))[0] for kind in kinds] for network in networks]),
        counts=np.array([sum(n for _, n in network.kinds.values()) for network in networks], dtype=float),
        weights_mib=np.array([network.weight_mib for network in networks]),
        features=np.array([network.features for network in networks]),
        measured=np.asarray(measured_ms, dtype=float),
        smallest_op_ms=smallest_op_ms,
    )
    choices = [(ridge, cache) for ridge in ridges for cache in caches_mib]
    ridge, cache_mib = min(choices, key=lambda choice: problem.left_out_error(*choice))
    left_out = np.empty(len(networks))
    for kept, left in problem.folds():
        fitted = problem.calibration(kept, ridge, cache_mib)
        for place in np.flatnonzero(left).tolist():
            left_out[place] = fitted.network_ms(networks[place])
    everything = np.ones(len(networks), dtype=bool)
    return Fitted(problem.calibration(everything, ridge, cache_mib), tuple(left_out.tolist()))


@dataclass(frozen=True, slots=True)
class _Problem:
    """Networks as arrays; unknown are a scale per kind, the offset, the per-op overhead and `cold`."""

    kinds: Sequence[str]
    sums: Floats  # (networks, kinds): own milliseconds
    counts: Floats  # (networks,): ops
    weights_mib: Floats  # (networks,)
    features: Floats  # (networks, 4): what the residual is a function of
    measured: Floats  # (networks,): milliseconds
    smallest_op_ms: float

    def folds(self) -> Iterable[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
        """(kept, left out) of up to 10 folds."""
        numbers = np.arange(len(self.measured)) % min(10, len(self.measured))
        for number in range(int(numbers.max()) + 1):
            yield numbers != number, numbers == number

    def calibration(self, kept: NDArray[np.bool_], ridge: float, cache_mib: float) -> Calibration:
        """The calibration from the networks kept, its residual included."""
        solved, common = self.fit(kept, ridge, cache_mib)
        sums = self.design(cache_mib)[kept] @ solved
        return Calibration(
            scales={kind: float(scale) for kind, scale in zip(self.kinds, solved, strict=False)},
            common_scale=common,
            offset_ms=float(solved[-3]),
            per_op_ms=float(solved[-2]),
            cold_ms_per_mib=float(solved[-1]),
            cache_mib=cache_mib,
            networks=int(kept.sum()),
            residual=self._residual(kept, sums),
        )

    def _residual(self, kept: NDArray[np.bool_], sums: Floats) -> Residual:
        features = self.features[kept]
        if len(features) < RESIDUAL_FROM or not (features > 0).all() or not (sums > 0).all():
            return Residual()
        return fit_residual(features, sums, self.measured[kept])

    def design(self, cache_mib: float) -> Floats:
        """What the unknowns are multiplied with, shape (networks, kinds + 3)."""
        cold = np.maximum(self.weights_mib - cache_mib, 0.0)
        return np.column_stack([self.sums, np.ones_like(self.measured), self.counts, cold])

    def fit(self, kept: NDArray[np.bool_], ridge: float, cache_mib: float) -> tuple[Floats, float]:
        """The unknowns, shape (kinds + 3,), from the networks kept; and the common scale."""
        from scipy.optimize import lsq_linear, nnls

        design, measured = self.design(cache_mib)[kept], self.measured[kept]
        kinds = self.sums.shape[1]
        total = self.sums[kept].sum(axis=1)
        simple = np.column_stack([total, np.ones_like(total), design[:, -1]])
        common = float(nnls(simple / measured[:, None], np.ones_like(measured))[0][0]) or 1.0
        # A scale's penalty is in parts of the common scale, the others' in parts of a mean network.
        # `cold` is nearly free: it is what physics expects where weights exceed the cache.
        mean = measured.mean()
        unit = np.append(
            np.full(kinds, 1 / common),
            [1 / mean, self.counts[kept].mean() / mean, 0.1 * self.weights_mib[kept].mean() / mean],
        )
        strength = np.sqrt(ridge * len(measured)) * unit
        target = np.append(np.full(kinds, common), np.zeros(3))
        lowest = np.append(np.zeros(kinds), [0.0, -0.4 * common * self.smallest_op_ms, 0.0])
        solved = lsq_linear(
            np.vstack([design / measured[:, None], np.diag(strength)]),
            np.append(np.ones_like(measured), strength * target),
            bounds=(lowest, np.inf),
        )
        return np.asarray(solved.x, dtype=float), common

    def left_out_error(self, ridge: float, cache_mib: float) -> float:
        """Mean squared relative error of networks left out of the fit, in up to 10 folds."""
        errors: list[float] = []
        design = self.design(cache_mib)
        for kept, left in self.folds():
            solved, _ = self.fit(kept, ridge, cache_mib)
            errors.extend((design[left] @ solved / self.measured[left] - 1) ** 2)
        return float(np.mean(errors))
