"""LatencyTable: milliseconds of ops in one device profile, and of networks from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwnas import plugins
from hwnas.errors import MissingOpError
from hwnas.estimate import Estimate
from hwnas.predictors.latency.calibration import compose
from hwnas.predictors.latency.energy import EnergyModel
from hwnas.predictors.latency.locate import find_table
from hwnas.predictors.latency.pace import Pace
from hwnas.predictors.latency.table_content import TableContent
from hwnas.predictors.latency.table_file import content_digest, parse_table, read_table, write_table
from hwnas.space.arch import ArchSpec
from hwnas.space.ops import OpSpec, lower

if TYPE_CHECKING:
    import pandas

    from hwnas.space.search_space import SearchSpace

__all__ = ["LatencyTable"]


@dataclass(frozen=True, slots=True)
class LatencyTable(TableContent):
    """Predicts the latency of networks on one device profile."""

    _op_ms: dict[OpSpec, float] = field(default_factory=dict, init=False, repr=False, compare=False)
    _indexes: dict[int, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def load(cls, name_or_path: str | Path) -> LatencyTable:
        """The table of a device (`rpi4`), or in a file.

        Raises UsageError for an unknown device, FileFormatError for a file that breaks a rule.
        """
        return cls._of(read_table(find_table(str(name_or_path))))

    @classmethod
    def parse(cls, text: str, *, source: str) -> LatencyTable:
        """The table in the text of a file, which `source` names in errors. Raises FileFormatError."""
        return cls._of(parse_table(text, source=source))

    @classmethod
    def _of(cls, content: TableContent) -> LatencyTable:
        return cls(**{each.name: getattr(content, each.name) for each in dataclasses.fields(content)})

    def save(self, path: str | Path) -> None:
        """Writes the table, whole or not at all."""
        write_table(self, Path(path))

    def __repr__(self) -> str:
        """`LatencyTable(rpi4: estimated, onnxruntime fp32, 1 thread(s), batch 1, coefficients)`."""
        profile = self.profile
        content = f"{len(self.rows)} rows" if self.coefficients is None else "coefficients"
        return (
            f"LatencyTable({self.name}: {self.provenance}, {profile.runtime} {profile.precision}, "
            f"{profile.threads} thread(s), batch {profile.batch}, {content})"
        )

    def to_frame(self) -> pandas.DataFrame:
        """A row for each op: kind, key, ms, low_ms, high_ms, p95_ms, filled, disturbed. Needs pandas.

        A table without rows has its cost model: feature, ms_per_unit.
        """
        loaded = plugins.require("pandas", extra="frames")
        if self.coefficients is not None:
            known = zip(self.coefficients.names, self.coefficients.values, strict=True)
            cost: pandas.DataFrame = loaded.DataFrame(list(known), columns=["feature", "ms_per_unit"])
            return cost
        rows = [
            {"kind": key.partition("(")[0], "key": key, **dataclasses.asdict(row)}
            for key, row in self.rows.items()
        ]
        frame: pandas.DataFrame = loaded.DataFrame(rows)
        return frame

    @property
    def unit(self) -> str:
        return "ms"

    @property
    def digest(self) -> str:
        """SHA-256 of the table's content in hex: what a run records to say which table it used."""
        return content_digest(self)

    @property
    def pace(self) -> Pace | None:
        """How fast the machine was that the table was measured on; None where nobody knows."""
        values = self.measurement.get("pace")
        if not isinstance(values, Sequence) or len(values) != 3:
            return None
        return Pace((float(values[0]), float(values[1]), float(values[2])))

    @property
    def energy(self) -> EnergyModel | None:
        """What predicts energy; None where nobody measured it. Raises FileFormatError where it is damaged."""
        known = self.measurement.get("energy")
        return None if known is None else EnergyModel.from_dict(known, source=f"the table '{self.name}'")

    def overhead_ms(self, ops: Iterable[OpSpec]) -> float:
        """What the sum that a network is predicted from has besides its ops.

        Once a network, and for weights that do not stay in the cache.
        """
        if self.coefficients is not None:
            return self.coefficients.offset_ms
        return self.calibration.overhead_ms(sum(op.weight_bytes() for op in ops) / 2**20)

    def missing(self, ops: Iterable[OpSpec]) -> tuple[str, ...]:
        """Keys of ops that have no row, each once, in the order given."""
        if self.coefficients is not None:
            return ()
        keys = dict.fromkeys(op.key for op in ops)
        return tuple(key for key in keys if key not in self.rows)

    def op_latency_ms(self, op: OpSpec) -> float:
        """What the op adds to the sum that a network is predicted from, in ms; see `shares_ms`.

        Raises MissingOpError when there is no row for it.
        """
        known = self._op_ms.get(op)
        if known is None:
            known = self._op_ms[op] = self._computed_op_ms(op)
        return known

    def factor(self, ops: Sequence[OpSpec]) -> float:
        """What that sum is multiplied with, near 1: what it gets wrong for networks of this size.

        Raises MissingOpError when an op has no row.
        """
        if self.coefficients is not None or not self.calibration.residual.points:
            return 1.0
        return self.calibration.residual.factor(compose(ops, self._own_ms).features)

    def shares_ms(self, ops: Sequence[OpSpec]) -> tuple[tuple[float, ...], float]:
        """What each op adds to the network that runs them, and the rest: together its prediction.

        Raises MissingOpError when an op has no row.
        """
        factor = self.factor(ops)
        return tuple(factor * self.op_latency_ms(op) for op in ops), factor * self.overhead_ms(ops)

    def predict(self, arch: ArchSpec, *, level: float = 0.9) -> Estimate:
        """Milliseconds of one network, with the interval that holds at `level`.

        >>> from hwnas.space import preset
        >>> LatencyTable.load("rpi4").predict(preset("uniform-t")).unit
        'ms'

        Raises MissingOpError, which lists every op that has no row.
        """
        return self.predict_ops(lower(arch), level=level)

    def predict_ops(self, ops: Sequence[OpSpec], *, level: float = 0.9) -> Estimate:
        """Milliseconds of the network that runs these ops; see `predict`."""
        try:
            value = (self.overhead_ms(ops) + sum(map(self.op_latency_ms, ops))) * self.factor(ops)
        except MissingOpError:
            raise self._missing_error(self.missing(ops)) from None
        factor = self.heldout.factor(level)
        return Estimate(
            value=value,
            std=value * self.heldout.prediction_std,
            low=value / factor,
            high=value * factor,
            unit="ms",
        )

    def predict_many(
        self, encoded: NDArray[np.int64] | Sequence[Sequence[int]], space: SearchSpace | None = None
    ) -> NDArray[np.float64]:
        """Milliseconds of many networks, shape (n,), from their encodings, shape (n, decisions).

        Equal to `predict(space.decode(vector)).value` one at a time; the space is the default one
        when it is left out. Raises MissingOpError as `predict` does.
        """
        from hwnas.space.op_sums import SpaceIndex
        from hwnas.space.search_space import SearchSpace as Space

        space = Space.default() if space is None else space
        held = self._indexes.get(id(space))
        if held is None or held.space is not space:
            held = self._indexes[id(space)] = SpaceIndex(space, self._numbers)
        sums: NDArray[np.float64] = held.sums(np.asarray(encoded))
        shares = sums[:, 0]
        if self.coefficients is not None:
            return shares + self.coefficients.offset_ms
        calibration = self.calibration
        cold_mib = np.maximum(sums[:, 2] - calibration.cache_mib, 0.0)
        total = shares + calibration.offset_ms + calibration.cold_ms_per_mib * cold_mib
        return total * calibration.residual.factors(sums[:, 1:])

    def _numbers(self, op: OpSpec) -> tuple[float, ...]:
        """What of an op adds up over a network: its share, then the features of the residual."""
        share = self.op_latency_ms(op)
        if self.coefficients is not None:
            return (share,)
        mib = 2.0**-20
        return share, self._own_ms(op), op.weight_bytes() * mib, op.activation_bytes() * mib, float(op.nodes)

    def _own_ms(self, op: OpSpec) -> float:
        row = self.rows.get(op.key)
        if row is None:
            raise self._missing_error((op.key,))
        return row.ms

    def _computed_op_ms(self, op: OpSpec) -> float:
        if self.coefficients is not None:
            return self.coefficients.op_ms(op)
        return self.calibration.op_ms(op.kind, self._own_ms(op))

    def _missing_error(self, keys: tuple[str, ...]) -> MissingOpError:
        shown = ", ".join(keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
        return MissingOpError(
            f"the table '{self.name}' has no row for {len(keys)} op(s) of this network: {shown}. "
            "Build a table that has them: hwnas table build --name NAME --space SPACE (or --arch ARCH)",
            keys,
        )
