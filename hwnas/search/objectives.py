"""Quantities: what is known of a network before anybody evaluates it.

Its latency on each device, the tail of that, its energy, parameters, MACs and memory. A search limits some
of them and minimises some. All take many networks at once, in arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import UsageError, did_you_mean
from hwnas.estimate import Estimate, Predictor
from hwnas.predictors.latency.budget_check import latency_bound_ms, tail_shares
from hwnas.space.op_sums import SpaceIndex
from hwnas.space.ops import peak_activation_bytes
from hwnas.space.search_space import SearchSpace, Vector
from hwnas.types import Floats

if TYPE_CHECKING:
    from hwnas.predictors.latency import LatencyTable

__all__ = [
    "FEW",
    "SIZES",
    "Constraint",
    "Energy",
    "Latency",
    "Quantity",
    "Size",
    "Tail",
    "tail_of",
]

Vectors = NDArray[np.int64] | Sequence[Vector]

CACHED_ESTIMATES = 50_000
FEW = 4
"""Fewer networks than these cost less one by one than in arrays."""
DIGITS = 10
"""Significant ones of a latency that was predicted among many."""


class Quantity(Protocol):
    """One number of each network, known beforehand; smaller is better."""

    @property
    def name(self) -> str:
        """What a record and an error call it."""
        ...

    @property
    def unit(self) -> str: ...

    def of(self, vectors: Vectors) -> Floats:
        """The numbers of networks, shape (n,), for their vectors, shape (n, decisions)."""
        ...

    def bound_value(self, vectors: Vectors) -> Floats:
        """What is compared with a limit, shape (n,): the number itself, or a quantile of it."""
        ...

    def estimate(self, vector: Vector) -> Estimate:
        """The number of one network, with its interval where there is one."""
        ...

    def estimates(self, vectors: Vectors) -> list[Estimate]:
        """The same of many."""
        ...


@dataclass(frozen=True, slots=True)
class Constraint:
    """An upper limit of a quantity."""

    quantity: Quantity
    limit: float
    """In the quantity's unit."""

    def usage(self, vectors: Vectors) -> Floats:
        """The share of the limit that each network uses, shape (n,); at most 1 where it is feasible."""
        return self.quantity.bound_value(vectors) / self.limit


class Latency:
    """Milliseconds on a device, as its table predicts them."""

    unit = "ms"

    def __init__(
        self,
        predictor: Predictor,
        space: SearchSpace,
        *,
        name: str = "latency",
        confidence: float | None = None,
    ) -> None:
        self.name = name
        self._predictor = predictor
        self._space = space
        self._confidence = None if confidence == 0.5 else confidence
        self._estimates: dict[Vector, Estimate] = {}
        self._bound_factor: float | None = None

    def of(self, vectors: Vectors) -> Floats:
        """In arrays where the predictor knows how (`predict_many`), one at a time otherwise."""
        many = np.asarray(vectors, dtype=np.int64)
        if hasattr(self._predictor, "predict_many"):
            return np.asarray(self._predictor.predict_many(many, self._space), dtype=float)
        return np.array([self.estimate(tuple(row)).value for row in many.tolist()], dtype=float)

    def bound_value(self, vectors: Vectors) -> Floats:
        """The latency, or its quantile at the wished confidence.

        Raises UsageError when a confidence is wished and the table does not know its error.
        """
        many = np.asarray(vectors, dtype=np.int64)
        if self._confidence is None or len(many) == 0:
            return self.of(many)
        if not hasattr(self._predictor, "heldout"):
            return np.array([self._bound_ms(tuple(row)) for row in many.tolist()], dtype=float)
        if self._bound_factor is None:  # a table's error is a share of the latency, the same for all
            first: Vector = tuple(many[0].tolist())
            self._bound_factor = self._bound_ms(first) / self.estimate(first).value
        return self.of(many) * self._bound_factor

    def estimate(self, vector: Vector) -> Estimate:
        """With the table's interval. Asked twice, computed once."""
        known = self._estimates.get(vector)
        if known is None:
            known = self._predictor.predict(self._space.decode(vector))
            if len(self._estimates) >= CACHED_ESTIMATES:
                self._estimates.clear()
            self._estimates[vector] = known
        return known

    def estimates(self, vectors: Vectors) -> list[Estimate]:
        """In arrays where the predictor is a table, whose interval is the same share of every latency.

        Rounded to `DIGITS`: what arrays add to the last ones depends on how many networks are in them.
        """
        if self._spread is None:
            return [self.estimate(tuple(map(int, row))) for row in vectors]
        factor, log_std = self._spread
        if len(vectors) < FEW:
            exact = [self.estimate(tuple(map(int, row))).value for row in vectors]
        else:
            exact = self.of(vectors).tolist()
        rounded = (float(f"{ms:.{DIGITS}g}") for ms in exact)
        return [Estimate(ms, ms * log_std, ms / factor, ms * factor, self.unit) for ms in rounded]

    @cached_property
    def _spread(self) -> tuple[float, float] | None:
        """A table's own: what its interval divides and multiplies by, and its relative deviation."""
        heldout = getattr(self._predictor, "heldout", None)
        return None if heldout is None else (heldout.factor(), heldout.log_std)

    def _bound_ms(self, vector: Vector) -> float:
        estimate = self.estimate(vector)
        if estimate.std == 0:
            raise UsageError(
                "--confidence needs a table with a known error, and this one has none: "
                "leave --confidence out, or use a device with an error in 'hwnas devices'"
            )
        return latency_bound_ms(estimate, self._confidence)


class Tail:
    """The 95th percentile of single runs on a device, in ms: its latency times a ratio from its ops.

    The ratio is that of the ops' own 95th percentiles to their medians, each weighted with its share of
    the network's time, as if all were slow at once; a row that was not measured counts with the median
    ratio of those that were. For a network of many ops this is an upper estimate.
    """

    unit = "ms"

    def __init__(
        self, latency: Latency, table: LatencyTable, space: SearchSpace, *, name: str = "p95"
    ) -> None:
        """Raises UsageError when the table has no 95th percentiles."""
        self.name = name
        self._latency = latency
        self._shares = SpaceIndex(space, tail_shares(table))

    def of(self, vectors: Vectors) -> Floats:
        return self._latency.of(vectors) * self._ratio(vectors)

    def bound_value(self, vectors: Vectors) -> Floats:
        return self._latency.bound_value(vectors) * self._ratio(vectors)

    def estimate(self, vector: Vector) -> Estimate:
        return self.estimates([vector])[0]

    def estimates(self, vectors: Vectors) -> list[Estimate]:
        pairs = zip(self._latency.estimates(vectors), self._ratio(vectors).tolist(), strict=True)
        return [_times(latency, ratio) for latency, ratio in pairs]

    def _ratio(self, vectors: Vectors) -> Floats:
        sums = self._shares.sums(np.asarray(vectors, dtype=np.int64))
        return np.asarray(sums[:, 0] / sums[:, -1]) if len(sums) else np.zeros(0)


def tail_of(latency: Latency, predictor: Predictor, space: SearchSpace, *, name: str) -> Tail:
    """The tail of a device's latency; raises UsageError when what predicts it is no table with rows."""
    from hwnas.predictors.latency import LatencyTable

    if not isinstance(predictor, LatencyTable):
        raise UsageError(f"only a latency table knows 95th percentiles, got a {type(predictor).__name__}")
    return Tail(latency, predictor, space, name=name)


class Size:
    """Parameters, MACs or memory: what the architecture alone says."""

    def __init__(self, name: str, space: SearchSpace) -> None:
        """Raises UsageError for a name that is none of `SIZES`."""
        if name not in SIZES:
            raise UsageError(
                f"no quantity '{name}'.{did_you_mean(name, [*SIZES, 'energy'])} There are: "
                f"{', '.join(sorted([*SIZES, 'energy']))}"
            )
        self.name = name
        self.unit = SIZES[name]
        self._space = space

    def of(self, vectors: Vectors) -> Floats:
        many = np.asarray(vectors, dtype=np.int64)
        if len(many) == 0:
            return np.zeros(0)
        sums = _size_index(self._space).sums(many)
        if self.name == "memory":
            return np.asarray(sums[:, 2] + self._activations.sums(many)[:, 0])
        return np.asarray(sums[:, 0 if self.name == "params" else 1])

    def bound_value(self, vectors: Vectors) -> Floats:
        return self.of(vectors)

    def estimate(self, vector: Vector) -> Estimate:
        return self.estimates([vector])[0]

    def estimates(self, vectors: Vectors) -> list[Estimate]:
        return [Estimate(number, unit=self.unit) for number in self.of(vectors).tolist()]

    @cached_property
    def _activations(self) -> SpaceIndex:
        return SpaceIndex(self._space, lambda op: (float(peak_activation_bytes([op])),), combine=np.maximum)


@lru_cache(maxsize=4)
def _size_index(space: SearchSpace) -> SpaceIndex:
    """Sums of parameters, MACs and bytes of weights."""
    return SpaceIndex(space, lambda op: (float(op.params), float(op.macs), float(op.weight_bytes())))


class Energy:
    """Millijoules of one run on a device, as its table predicts them from measured networks."""

    unit = "mJ"

    def __init__(self, predictor: Predictor, space: SearchSpace, *, name: str = "energy") -> None:
        """Raises UsageError when the device's table has no energy."""
        model = getattr(predictor, "energy", None)
        if model is None:
            device = getattr(predictor, "name", "device")
            raise UsageError(
                f"the table '{device}' has no energy: nobody measured it there. On a board that reports "
                f"energy, run 'hwnas table energy {device}'; else leave the energy out"
            )
        self.name = name
        self._model = model
        self._index = SpaceIndex(space, lambda op: (model.op_mj(op),))

    def of(self, vectors: Vectors) -> Floats:
        many = np.asarray(vectors, dtype=np.int64)
        return np.asarray(self._index.sums(many)[:, 0]) if len(many) else np.zeros(0)

    def bound_value(self, vectors: Vectors) -> Floats:
        return self.of(vectors)

    def estimate(self, vector: Vector) -> Estimate:
        return self.estimates([vector])[0]

    def estimates(self, vectors: Vectors) -> list[Estimate]:
        return [self._model.estimate(float(f"{mj:.{DIGITS}g}")) for mj in self.of(vectors).tolist()]


SIZES = {"params": "", "macs": "", "memory": "bytes"}
"""What the architecture alone says, and its unit. Memory: weights and the activations that are held at
once, at most, in fp32 and batch 1."""


def _times(estimate: Estimate, factor: float) -> Estimate:
    low, high = (None if end is None else end * factor for end in (estimate.low, estimate.high))
    return Estimate(estimate.value * factor, estimate.std * factor, low, high, estimate.unit)
