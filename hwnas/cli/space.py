"""`hwnas space`: describe a search space on a device, start a new one, check one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas.cli.common import JsonOption, emit_json, stdout
from hwnas.errors import UsageError

if TYPE_CHECKING:
    from hwnas.search.space_profile import SpaceProfile

__all__ = ["app"]

app = typer.Typer(help="Describe, create and check search spaces.", no_args_is_help=True)

SpaceArgument = Annotated[
    str, typer.Argument(metavar="[FILE]", help="Search space: a YAML file or a name (default, small-images).")
]


@app.command()
def describe(
    file: SpaceArgument = "default",
    device: Annotated[
        str | None, typer.Option("--device", metavar="DEVICE", help="Device for the latencies, e.g. rpi4.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Show the size of a space, the range of its networks and the cost of each decision."""
    from hwnas.search.space_profile import profile_space
    from hwnas.space.search_space import SearchSpace

    table = None
    if device is not None:
        from hwnas.predictors.latency import LatencyTable

        table = LatencyTable.load(device)
    profile = profile_space(SearchSpace.from_yaml(file), table)
    if json_:
        emit_json({"schema": 1, **profile.to_dict()})
    else:
        _show(profile)


@app.command()
def new(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write, e.g. my-space.yaml.")],
) -> None:
    """Write a commented YAML file with a small space to start from."""
    from hwnas.io.atomic import write_atomically
    from hwnas.space.search_space import SearchSpace

    if file.exists():
        raise UsageError(f"{file} exists: name another file")
    if not file.parent.is_dir():
        raise UsageError(f"no folder '{file.parent}': create it first")
    write_atomically(file, TEMPLATE.replace("NAME", file.stem))
    space = SearchSpace.from_yaml(file)
    stdout().print(
        f"{file}: {space.size:.3g} networks. Edit it, then: hwnas space check {file}",
        soft_wrap=True,
        markup=False,
    )


@app.command()
def check(file: SpaceArgument, json_: JsonOption = False) -> None:
    """Validate a space file. The exit code is 0 when it is valid."""
    from hwnas.space.search_space import SearchSpace

    space = SearchSpace.from_yaml(file)
    fixed = sum(len(decision.choices) == 1 for decision in space.decisions)
    if json_:
        emit_json({"schema": 1, "name": space.name, "size": space.size, "decisions": len(space.decisions)})
        return
    stdout().print(
        f"{file}: valid. Space '{space.name}' has {space.size:.3g} networks of {len(space.stages)} stages, "
        f"{len(space.decisions)} decisions ({fixed} with one choice).",
        soft_wrap=True,
        markup=False,
    )


def _show(profile: SpaceProfile) -> None:
    from rich.table import Table

    from hwnas.search.space_profile import QUANTILES

    console = stdout()
    units = {
        "latency": (f"latency ms, {profile.provenance}", 1.0),
        "macs": ("MACs M", 1e6),
        "params": ("params M", 1e6),
    }
    place = f" on {profile.device}" if profile.device else ""
    table = Table(title=f"Space '{profile.name}': {profile.size:.3g} networks{place}", title_justify="left")
    table.add_column("")
    for header in ("least", *(f"{100 * share:g} %" for share in QUANTILES), "most"):
        table.add_column(header, justify="right", no_wrap=True)
    for name, row in profile.quantiles.items():
        title, unit = units[name]
        numbers = (profile.smallest[name], *row, profile.largest[name])
        table.add_row(title, *(f"{number / unit:.4g}" for number in numbers))
    console.print(table)
    lines = []
    if profile.device:
        lines.append(
            f"A budget must be at least {profile.smallest['latency']:.4g} ms: the fastest network. Half of "
            f"the networks run within {profile.quantiles['latency'][QUANTILES.index(0.5)]:.4g} ms."
        )
    lines.append("Columns in %: that share of random networks has at most this.")
    console.print("\n".join(lines), soft_wrap=True, markup=False)
    costs = Table(title="What each choice costs: means over random networks with it", title_justify="left")
    for header, justify in (
        ("decision", "left"),
        ("choice", "left"),
        ("latency ms", "right"),
        ("MACs M", "right"),
    ):
        if header != "latency ms" or profile.device:
            costs.add_column(header, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    before = ""
    for one in profile.costs:
        latency = [] if one.latency_ms is None else [f"{one.latency_ms:.4g}"]
        costs.add_row(
            "" if one.decision == before else one.decision, one.choice, *latency, f"{one.macs / 1e6:.4g}"
        )
        before = one.decision
    console.print(costs)


TEMPLATE = """\
# A search space: every list holds the choices of one decision. Numbers must rise.
# Check it:     hwnas space check NAME.yaml
# Describe it:  hwnas space describe NAME.yaml --device rpi4
# Search it:    hwnas search --device rpi4 --budget 20ms --space NAME.yaml
format: 1
name: NAME
resolution: [224]      # input sides; one value fixes the resolution
stem_stride: [16]      # 16, or 8 for small images
classes: 1000
attention:             # of every block; delete lines to restrict the space to some attentions
- none                 # no attention; exists in layout dw-attention-ffn only
- {type: reuse, heads: 4, kernels: [1, 3, 5, 7]}                # UniForm
- {type: single-head, ratio: 4.68}                              # SHViT; ratio: width / attending channels
- {type: cascaded-group, heads: 4, kernels: [7, 5, 3, 3]}       # EfficientViT
stages:                # one entry per stage; delete one for networks with fewer stages
- width: [64, 128, 192]       # channels; a multiple of each attention's heads
  depth: [1, 2, 3]            # blocks
  ffn_ratio: [2]              # hidden channels of an FFN / width
  layout: [sandwich, dw-attention-ffn]
- width: [128, 192, 256]
  depth: [1, 2, 3, 4]
  layout: [sandwich, dw-attention-ffn]
- width: [192, 256, 320]
  depth: [1, 2, 3, 4]
  layout: [sandwich, dw-attention-ffn]
"""
