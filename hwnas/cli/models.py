"""`hwnas models`: the published networks at hand."""

from __future__ import annotations

from hwnas.cli.common import JsonOption, emit_json, stdout

__all__ = ["command"]


def command(as_json: JsonOption = False) -> None:
    """List the published networks with our counts and the figures of their papers.

    Papers count parameters and MACs by different rules. 'hwnas describe NAME' shows our counts per op.
    """
    from hwnas.space import count_macs, count_params, lower, presets

    models = presets()
    if as_json:
        emit_json(
            {
                "schema": 1,
                "models": [
                    {
                        "name": model.name,
                        "id": model.arch.id,
                        "family": model.family,
                        "resolution": model.arch.resolution,
                        "classes": model.arch.classes,
                        "params": count_params(lower(model.arch)),
                        "macs": count_macs(lower(model.arch)),
                        "published_params_m": model.params_m,
                        "published_mmacs": model.mmacs,
                        "published_top1_percent": model.imagenet_top1_percent,
                        "paper": model.paper,
                        "note": model.note or None,
                    }
                    for model in models.values()
                ],
            }
        )
        return

    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("name", no_wrap=True)
    table.add_column("family", no_wrap=True)
    for heading in ("pixels", "params M", "published", "MACs M", "published", "top-1 % published"):
        table.add_column(heading, justify="right")
    for model in models.values():
        ops = lower(model.arch)
        table.add_row(
            model.name,
            model.family,
            str(model.arch.resolution),
            f"{count_params(ops) / 1e6:.2f}",
            _or_dash(model.params_m),
            f"{count_macs(ops) / 1e6:.1f}",
            _or_dash(model.mmacs),
            _or_dash(model.imagenet_top1_percent),
        )
    out = stdout()
    out.print(table)
    for model in models.values():
        if model.note:
            out.print(f"\n{model.name}: {model.note}")


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
