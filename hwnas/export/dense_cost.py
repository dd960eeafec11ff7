"""What a detector or a segmentation network costs at an input size: parameters, MACs, predicted latency.

MACs are counted in the graph that is deployed. Latency is the backbone's, from the ops of a latency table
at that size, plus the head's, for which tables have no rows: it is estimated from its MACs at the rate of
the backbone's dense convolutions, and has no interval.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from hwnas.dense.checkpoint import DenseCheckpoint, trained_network
from hwnas.errors import HwnasError
from hwnas.export.dense import dense_model
from hwnas.export.dense_graph import DenseGraph
from hwnas.predictors.latency import LatencyTable, fit_fill
from hwnas.predictors.latency.locate import device_names
from hwnas.space import ArchSpec, CascadedGroup, OpSpec, Reuse, lower

__all__ = ["HEAD_ESTIMATE", "DenseCost", "DenseLatency", "cost_of", "latency_on", "predicted_latency"]

HEAD_ESTIMATE = "estimated from its MACs at the rate of the backbone's dense convolutions"
_HEAD_PLACES = ("neck", "head")
_DENSE_KINDS = ("stem", "merge", "ffn", "conv-ffn", "conv-pool", "conv-pool-stem")


@dataclass(frozen=True, slots=True)
class DenseCost:
    """Parameters and MACs of one image, as deployed on ONNX Runtime in fp32."""

    width: int
    """Of the input, in pixels."""
    height: int
    backbone_params: int
    head_params: int
    """Of the pyramid and the heads."""
    macs_by_place: Mapping[str, int]
    """By op of the backbone, 'neck' (the pyramid) and 'head'."""

    @property
    def head_macs(self) -> int:
        """Of the pyramid and the heads."""
        return sum(self.macs_by_place.get(place, 0) for place in _HEAD_PLACES)

    @property
    def backbone_macs(self) -> int:
        """Of the stages."""
        return sum(self.macs_by_place.values()) - self.head_macs


@dataclass(frozen=True, slots=True)
class DenseLatency:
    """Predicted milliseconds of one image on a device."""

    device: str
    provenance: str
    """Of the table: measured, transferred or estimated."""
    backbone_ms: float
    head_ms: float
    interpolated: int
    """Ops of the backbone that the table has no row for: a model fitted on its rows gives them."""

    @property
    def ms(self) -> float:
        """Backbone and head."""
        return self.backbone_ms + self.head_ms

    def to_dict(self) -> dict[str, Any]:
        """The row of a card and of a file's metadata."""
        return {
            "device": self.device,
            "table": self.provenance,
            "ms": round(self.ms, 4),
            "low_ms": None,
            "high_ms": None,
            "backbone_ms": round(self.backbone_ms, 4),
            "head_ms": round(self.head_ms, 4),
            "head": HEAD_ESTIMATE,
            "interpolated_ops": self.interpolated,
        }


def cost_of(trained: DenseCheckpoint, size: tuple[int, int]) -> DenseCost:
    """The cost at an input of (width, height)."""
    width, height = size
    network = trained_network(trained)
    graph = DenseGraph(network, trained.task, height, width, "onnxruntime", "fp32").eval()
    backbone = sum(op.params for op in lower(trained.arch) if op.place != "head")
    whole = sum(parameter.numel() for parameter in network.parameters())
    own = sum(parameter.numel() for parameter in network.backbone.parameters())
    return DenseCost(width, height, backbone, whole - own, _macs(dense_model(graph)))


def predicted_latency(
    trained: DenseCheckpoint, cost: DenseCost, *, runtime: str, precision: str
) -> list[DenseLatency]:
    """By each table at hand of this runtime and precision for one image; those that fail are left out."""
    found = []
    for device in device_names():
        try:
            table = LatencyTable.load(device)
            profile = table.profile
            if (profile.runtime, profile.precision, profile.batch) == (runtime, precision, 1):
                found.append(latency_on(table, trained.arch, cost))
        except HwnasError:
            continue
    return found


def latency_on(table: LatencyTable, arch: ArchSpec, cost: DenseCost) -> DenseLatency:
    """Milliseconds by one table."""
    ops = _ops_at(arch, cost.width, cost.height)
    missing = set(table.missing(ops))
    shares = _shares_ms(table, ops, missing)
    factor = 1.0 if missing else table.factor(ops)
    backbone_ms = factor * (sum(shares) + table.overhead_ms(ops))
    dense = [(op.macs, share) for op, share in zip(ops, shares, strict=True) if op.kind in _DENSE_KINDS]
    rate = sum(share for _, share in dense) / sum(macs for macs, _ in dense)
    return DenseLatency(table.name, table.provenance, backbone_ms, rate * cost.head_macs, len(missing))


def _shares_ms(table: LatencyTable, ops: tuple[OpSpec, ...], missing: set[str]) -> list[float]:
    if not missing:
        return [table.op_latency_ms(op) for op in ops]
    kinds = {op.kind for op in ops}
    rows = [(OpSpec.from_key(key), row) for key, row in table.rows.items() if not row.filled]
    known = [(op, row.ms) for op, row in rows if op.kind in kinds] or [(op, row.ms) for op, row in rows]
    fill = fit_fill([op for op, _ in known], [ms for _, ms in known])
    return [
        table.calibration.op_ms(op.kind, fill.predict_ms(op)[0])
        if op.key in missing
        else table.op_latency_ms(op)
        for op in ops
    ]


def _ops_at(arch: ArchSpec, width: int, height: int) -> tuple[OpSpec, ...]:
    """The backbone's ops at a square of the input's area; windows keep the side that they were trained at."""
    stride = arch.stem.stride << (len(arch.stages) - 1)
    side = width if width == height else max(1, round(math.sqrt(width * height) / stride)) * stride
    at_size = dataclasses.replace(arch, resolution=side)
    before, after = (
        {op.place: op.in_shape[1] for op in lower(one) if op.place.endswith(".attention")}
        for one in (arch, at_size)
    )
    stages = []
    for number, stage in enumerate(arch.stages):
        blocks = []
        for index, block in enumerate(stage.blocks):
            place = f"stages.{number}.blocks.{index}.attention"
            if isinstance(block, Reuse | CascadedGroup):
                kept = min(before[place], block.window)
                if kept != min(after[place], block.window):
                    block = dataclasses.replace(block, window=kept)
            blocks.append(block)
        stages.append(dataclasses.replace(stage, blocks=tuple(blocks)))
    at_size = dataclasses.replace(at_size, stages=tuple(stages))
    return tuple(op for op in lower(at_size) if op.place != "head")


def _macs(data: bytes) -> dict[str, int]:
    """Multiply-accumulates of an ONNX model by the place that its nodes' names start with."""
    model = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(data))
    graph = model.graph
    shapes = {
        info.name: [side.dim_value for side in info.type.tensor_type.shape.dim]
        for info in (*graph.input, *graph.value_info, *graph.output)
    }
    shapes |= {weight.name: list(weight.dims) for weight in graph.initializer}
    found: dict[str, int] = {}
    for node in graph.node:
        place = node.name.rpartition("/")[0]
        macs = 0
        if node.op_type == "Conv":
            macs = math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
        elif node.op_type in ("MatMul", "Gemm"):
            macs = math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
        found[place] = found.get(place, 0) + macs
    return found
