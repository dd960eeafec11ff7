"""`hwnas gallery`: networks that were found for the devices at hand."""

from __future__ import annotations

from typing import Annotated

import typer

from hwnas.cli.common import JsonOption, emit_json, say, stdout

__all__ = ["command"]


def command(
    device: Annotated[
        list[str] | None,
        typer.Option("--device", metavar="DEVICE", help="Networks for this device, e.g. rpi4; repeatable."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="TIME", help="Networks predicted within this latency, e.g. 20ms."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List networks that searches found: for every device, the most accurate one within some budgets.

    'gallery:NAME' is an ARCH for other verbs. Nothing was trained: accuracy is ImageNet-1K top-1, estimated
    from published results; latency is predicted by the device's table. Search for other budgets.
    """
    from hwnas.gallery import PREFIX, entries
    from hwnas.units import parse_ms

    found = entries(devices=device or (), within_ms=None if budget is None else parse_ms(budget))
    if as_json:
        emit_json({"schema": 1, "networks": [one.to_dict() for one in found]})
        return
    if not found:
        say(f"no network of the gallery is within {budget}: search one, or give a larger budget")
        return

    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("name", no_wrap=True)
    for heading in ("latency ms", "accuracy %, estimated", "params M"):
        table.add_column(heading, justify="right")
    table.add_column("attention")
    table.add_column("latency is", no_wrap=True)
    for one in found:
        low, high = one.latency.low, one.latency.high
        interval = "" if low is None or high is None else f" ({low:.3g} to {high:.3g})"
        table.add_row(
            one.name,
            f"{one.latency.value:.4g}{interval}",
            f"{one.accuracy.value:.1f} ± {one.accuracy.std:.1f}",
            f"{one.params / 1e6:.2f}",
            ", ".join(one.attentions) or "none",
            one.provenance,
        )
    console = stdout()
    console.print(table)
    best = found[0]
    console.print(f"Next:\n  hwnas describe {PREFIX}{best.name} --device {best.device}", soft_wrap=True)
