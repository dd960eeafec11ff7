"""What limits the use of a table's predictions, as sentences that every output of one shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["caveats"]

REFERENCE_GRAPH = (
    "measured on the reference graph of networks; exported files take 0.86 to 1.01 times as long. Build the "
    "table again for their own latencies: hwnas table build"
)


def caveats(provenance: str, measurement: Mapping[str, Any]) -> tuple[str, ...]:
    """The caveats of a table that came about in this way; none for most.

    A measured table says which graph was timed; those of before had no such field and timed the
    reference graph. `noisy` says why a measurement is uncertain. An estimated table may hold another
    publication of its board too rarely, one of another runtime or precision: it says what interval does.
    """
    found = []
    noisy = measurement.get("noisy")
    if isinstance(noisy, Mapping):
        found.append(f"noisy measurement: {noisy.get('reason', 'the reason was not kept')}")
    if provenance != "estimated" and "graph" not in measurement:
        found.append(REFERENCE_GRAPH)
    sources = measurement.get("out_of_sample")
    for source, facts in sources.items() if isinstance(sources, Mapping) else ():
        if isinstance(facts, Mapping) and "own_interval_factor" in facts:
            found.append(
                f"of the latencies that {source} gives for this board, the interval holds "
                f"{facts.get('in_90_percent_interval_percent')} %; for 90 % it must be a factor of "
                f"{facts['own_interval_factor']} to either side"
            )
    return tuple(found)
