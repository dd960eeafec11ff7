"""Bars of the report: what each op of a network takes, and what the front's networks choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from hwnas.report.choices import Share
from hwnas.report.style import colour
from hwnas.report.words import percent
from hwnas.space.ops import OpSpec

__all__ = ["legend", "op_bar", "op_rows", "paired_rows", "stacked"]


def op_bar(ops: Sequence[tuple[OpSpec, float]], *, rest_ms: float, most_ms: float) -> str:
    """One bar, cut into the network's ops by their milliseconds, in the order they run, then the rest.

    `most_ms` is the slowest network's latency, which fills the whole width.
    """
    parts = [(op.kind, op.place, ms) for op, ms in ops]
    parts += [("", "besides the ops", rest_ms)] if rest_ms > 0 else []
    pieces = "".join(
        f'<i class="{colour(kind)}" style="width:{100 * ms / most_ms:.3f}%" '
        f'title="{escape(place)}: {ms:.3g} ms"></i>'
        for kind, place, ms in parts
    )
    return f'<span class="bar" aria-hidden="true">{pieces}</span>'


def op_rows(ops: Sequence[OpSpec], by_device: Sequence[Sequence[float]]) -> str:
    """A table row per op: place, key, and for each device milliseconds and a bar against its slowest op."""
    most = [max(times, default=0.0) or 1.0 for times in by_device]
    return "".join(
        f'<tr><td class="left">{escape(op.place)}</td><td class="left"><code>{escape(op.key)}</code></td>'
        + "".join(
            f"<td>{times[index]:.3f}</td>"
            f'<td class="left" style="min-width:7rem"><i class="thin {colour(op.kind)}" '
            f'style="width:{100 * times[index] / longest:.1f}%"></i></td>'
            for times, longest in zip(by_device, most, strict=True)
        )
        + "</tr>"
        for index, op in enumerate(ops)
    )


def legend(kinds: Sequence[str]) -> str:
    """The kinds with their colours."""
    items = "".join(f'<li><i class="{colour(kind)}"></i>{escape(kind)}</li>' for kind in kinds)
    return f'<ul class="legend">{items}</ul>'


def stacked(shares: Mapping[str, float]) -> str:
    """One bar from shares that sum up to 1, each with its name and percentage as a tooltip."""
    pieces = "".join(
        f'<i class="{colour(name)}" style="width:{100 * share:.1f}%" '
        f'title="{escape(name)}: {100 * share:.0f} %"></i>'
        for name, share in shares.items()
    )
    said = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())
    return f'<span class="bar" role="img" aria-label="{escape(said)}">{pieces}</span>'


def paired_rows(shares: Sequence[Share]) -> str:
    """A table row per choice: its share of the front above its share of all evaluated networks."""
    return "".join(
        f'<tr><td class="left">{escape(share.choice)}</td><td class="left pair">'
        f'<i class="thin c1" style="width:{100 * share.front:.1f}%"></i>'
        f'<i class="thin c0" style="width:{100 * share.evaluated:.1f}%"></i></td>'
        f"<td>{percent(share.front)} / {percent(share.evaluated)}</td></tr>"
        for share in shares
    )
