"""The report of a run: one HTML file that loads nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwnas.search import SearchResult

__all__ = ["REPORT", "write_report"]

REPORT = "report.html"
"""The file's name in a run directory."""


def write_report(run: SearchResult | Path | str) -> Path:
    """Writes the report of a run into its directory, and returns the file's path.

    Where the device's table is no longer at hand, or another one by now, the report says so and has
    no latencies per op. Raises what `hwnas.search.load_run` raises, and UsageError for a result that
    was kept in memory only.
    """
    from hwnas.errors import HwnasError, UsageError
    from hwnas.latency import LatencyTable
    from hwnas.report.html import report_html
    from hwnas.search import load_run
    from hwnas.search.record import write_atomically

    result = load_run(run) if isinstance(run, Path | str) else run
    if result.path is None:
        raise UsageError("a report is written into a run directory: give the search an `out`")
    try:
        table = LatencyTable.load(result.question.device)
    except HwnasError:
        table = None
    if table is not None and table.digest != result.question.table_digest:
        table = None
    path = result.path / REPORT
    write_atomically(path, report_html(result, table=table))
    return path
