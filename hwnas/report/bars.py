"""Bars of the report: what each op of a network takes, and what the front's networks choose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

from hwnas.report.style import colour
from hwnas.space.ops import OpSpec

__all__ = ["choice_bars", "legend", "op_bar", "op_rows", "stacked"]


def op_bar(ops: Sequence[tuple[OpSpec, float]]) -> str:
    """One bar, cut into the network's ops by their milliseconds, in the order they run."""
    total = sum(ms for _, ms in ops) or 1.0
    pieces = "".join(
        f'<i class="{colour(op.kind)}" style="width:{100 * ms / total:.2f}%" '
        f'title="{escape(op.place)}: {ms:.3g} ms"></i>'
        for op, ms in ops
    )
    return f'<span class="bar" aria-hidden="true">{pieces}</span>'


def op_rows(ops: Sequence[tuple[OpSpec, float]]) -> str:
    """A table row per op: place, key, milliseconds, a bar against the slowest one."""
    most = max((ms for _, ms in ops), default=0.0) or 1.0
    return "".join(
        f'<tr><td class="left">{escape(op.place)}</td><td class="left"><code>{escape(op.key)}</code></td>'
        f"<td>{ms:.3f}</td>"
        f'<td class="left" style="min-width:7rem"><i class="thin {colour(op.kind)}" '
        f'style="width:{100 * ms / most:.1f}%"></i></td></tr>'
        for op, ms in ops
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


def choice_bars(counts: Sequence[tuple[str, Counter[str]]]) -> str:
    """A row per decision: its name, and how often each choice is taken."""
    rows = []
    for name, counter in counts:
        total = sum(counter.values()) or 1
        said = ", ".join(
            f"{choice} ({100 * number / total:.0f} %)" for choice, number in counter.most_common()
        )
        rows.append(f"<tr><td class='left'>{escape(name)}</td><td class='wrap'>{escape(said)}</td></tr>")
    return "".join(rows)
