"""What `hwnas describe` says of a detector or a segmentation network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hwnas.cli.common import emit_json, stdout

if TYPE_CHECKING:
    from hwnas.dense.checkpoint import DenseCheckpoint

__all__ = ["describe_dense"]


def describe_dense(trained: DenseCheckpoint, *, device: str | None, as_json: bool) -> None:
    """Prints its cost at the size that it is exported at by default, backbone and head apart."""
    from hwnas.export.dense import input_size
    from hwnas.export.dense_cost import HEAD_ESTIMATE, cost_of, latency_on

    cost = cost_of(trained, input_size(trained, None))
    document: dict[str, Any] = {
        "schema": 1,
        "name": trained.name,
        "id": trained.arch.id,
        "task": trained.task,
        "classes": len(trained.classes_names),
        "input": {"width": cost.width, "height": cost.height},
        "params": {"backbone": cost.backbone_params, "head": cost.head_params},
        "macs": {"backbone": cost.backbone_macs, "head": cost.head_macs},
        "macs_by_place": dict(cost.macs_by_place),
    }
    if device is not None:
        from hwnas.predictors.latency import LatencyTable

        document["latency"] = latency_on(LatencyTable.load(device), trained.arch, cost).to_dict()
    document["arch"] = trained.arch.to_dict()
    if as_json:
        emit_json(document)
        return
    params, macs = document["params"], document["macs"]
    lines = [
        f"{trained.name} (id {trained.arch.id}): {trained.task}, {len(trained.classes_names)} classes, "
        f"{cost.width} x {cost.height} px",
        f"parameters   backbone {params['backbone'] / 1e6:.3f} M, head {params['head'] / 1e6:.3f} M",
        f"MACs         backbone {macs['backbone'] / 1e6:.2f} M, head {macs['head'] / 1e6:.2f} M",
    ]
    if (row := document.get("latency")) is not None:
        lines += [
            f"latency      {row['ms']:.2f} ms predicted, by the {row['table']} table of '{row['device']}':",
            f"  backbone   {row['backbone_ms']:.2f} ms from the table's ops at this size"
            + (f" ({row['interpolated_ops']} of them interpolated)" if row["interpolated_ops"] else ""),
            f"  head       {row['head_ms']:.2f} ms {HEAD_ESTIMATE}; error unknown, measure the file",
        ]
    stdout().print("\n".join(lines), soft_wrap=True)
