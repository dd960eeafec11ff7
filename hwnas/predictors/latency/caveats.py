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
    reference graph. `noisy` says why a measurement is uncertain.
    """
    found = []
    noisy = measurement.get("noisy")
    if isinstance(noisy, Mapping):
        found.append(f"noisy measurement: {noisy.get('reason', 'the reason was not kept')}")
    if provenance != "estimated" and "graph" not in measurement:
        found.append(REFERENCE_GRAPH)
    return tuple(found)
