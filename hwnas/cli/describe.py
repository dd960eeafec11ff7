"""`hwnas describe`: what one network costs, op by op."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hwnas.cli.common import ArchArgument, DeviceOption, JsonOption, emit_json, say, stdout
from hwnas.cli.describe_dense import describe_dense

if TYPE_CHECKING:
    from hwnas.predictors.latency import LatencyTable
    from hwnas.space import ArchSpec

__all__ = ["command"]


def command(arch: ArchArgument, device: DeviceOption = None, as_json: JsonOption = False) -> None:
    """Show the cost of a network: parameters, MACs, memory and, with --device, latency per op.

    Nothing is measured here: the latency comes from the device's table, which is measured or estimated.
    """
    from hwnas.named import dense_checkpoint, resolve_arch

    if (dense := dense_checkpoint(arch, say=say)) is not None:
        describe_dense(dense, device=device, as_json=as_json)
        return
    name, spec = resolve_arch(arch)
    table = None
    if device is not None:
        from hwnas.predictors.latency import LatencyTable

        table = LatencyTable.load(device)
    document = _document(name, spec, table)
    if as_json:
        emit_json(document)
    else:
        _show(document)


def _document(name: str, arch: ArchSpec, table: LatencyTable | None) -> dict[str, Any]:
    from hwnas.space import count_macs, count_params, lower
    from hwnas.space.ops import peak_activation_bytes

    ops = lower(arch)
    document: dict[str, Any] = {
        "schema": 1,
        "name": name,
        "id": arch.id,
        "resolution": arch.resolution,
        "classes": arch.classes,
        "params": count_params(ops),
        "macs": count_macs(ops),
        "weight_bytes": sum(op.weight_bytes() for op in ops),
        "peak_activation_bytes": peak_activation_bytes(ops),
    }
    shares_ms: Sequence[float | None] = [None] * len(ops)
    if table is not None:
        estimate = table.predict(arch)
        shares_ms, rest_ms = table.shares_ms(ops)
        document |= {
            "device": table.name,
            "provenance": table.provenance,
            "latency_ms": estimate.value,
            "latency_low_ms": estimate.low,
            "latency_high_ms": estimate.high,
            "batch": table.profile.batch,
            "images_per_s": table.profile.images_per_s(estimate.value),
            "offset_ms": rest_ms,
            "caveats": list(table.caveats),
        }
    document["ops"] = [
        {
            "key": op.key,
            "kind": op.kind,
            "place": op.place,
            "macs": op.macs,
            "params": op.params,
            "weight_bytes": op.weight_bytes(),
            "activation_bytes": op.activation_bytes(),
            "latency_ms": share_ms,
        }
        for op, share_ms in zip(ops, shares_ms, strict=True)
    ]
    document["arch"] = arch.to_dict()
    return document


def _run(document: dict[str, Any]) -> str:
    """What a latency is of where that is not one image."""
    return f" for {document['batch']} images" if document["batch"] > 1 else ""


def _show(document: dict[str, Any]) -> None:
    from rich.table import Table

    out = stdout()
    lines = [
        f"{document['name']} (id {document['id']}): "
        f"{document['resolution']} px, {document['classes']} classes",
        f"parameters   {document['params'] / 1e6:.3f} M",
        f"MACs         {document['macs'] / 1e6:.2f} M",
        f"weights      {document['weight_bytes'] / 2**20:.2f} MiB (fp32, BatchNorm folded)",
        f"activations  {document['peak_activation_bytes'] / 2**20:.2f} MiB at most (fp32, batch 1)",
    ]
    timed = "device" in document
    if timed:
        low, high = document["latency_low_ms"], document["latency_high_ms"]
        interval = "" if low is None or high is None else f", likely {low:.2f} to {high:.2f} ms"
        lines.append(
            f"latency      {document['latency_ms']:.2f} ms predicted{_run(document)}{interval}, "
            f"from the {document['provenance']} table of '{document['device']}'"
        )
        if document["batch"] > 1:
            lines.append(
                f"throughput   {document['images_per_s']:,.0f} images/s predicted: "
                f"{document['batch']} images a run"
            )
        lines += [f"note         {sentence}" for sentence in document["caveats"]]
    out.print("\n".join(lines) + "\n", soft_wrap=True)

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("place", no_wrap=True)
    table.add_column("op", overflow="fold")
    for heading in ("params", "MACs M"):
        table.add_column(heading, justify="right")
    if timed:
        table.add_column(f"ms{_run(document)} ({document['provenance']})", justify="right")
    for op in document["ops"]:
        timing = [f"{op['latency_ms']:.3f}"] if timed else []
        table.add_row(op["place"], op["key"], f"{op['params']:,}", f"{op['macs'] / 1e6:.2f}", *timing)
    if timed and document["offset_ms"]:
        table.add_row("besides the ops", "", "", "", f"{document['offset_ms']:.3f}")
    out.print(table)
