"""The latency tables that a run was made with, as far as they are at hand still."""

from __future__ import annotations

from hwnas.errors import HwnasError
from hwnas.predictors.latency import LatencyTable
from hwnas.search.run import SearchResult

__all__ = ["tables_of"]


def tables_of(result: SearchResult) -> dict[str, LatencyTable]:
    """By device, those whose content is what the run recorded; the others are left out."""
    found = {}
    for device, digest in result.config.digests.items():
        try:
            table = LatencyTable.load(device)
        except HwnasError:
            continue
        if table.digest == digest:
            found[device] = table
    return found
