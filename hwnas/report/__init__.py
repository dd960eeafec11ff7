"""The report of a run: one HTML file that loads nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_report"]


def write_report(run: Path | str) -> Path:
    """Writes RUN/report.html anew from what the run recorded, and returns its path.

    Where the device's table is no longer at hand, or another one by now, the report says so and has
    no latencies per op. Raises what `hwnas.search.load_run` raises.
    """
    from hwnas.errors import HwnasError
    from hwnas.latency import LatencyTable
    from hwnas.report.html import report_html
    from hwnas.search import load_run
    from hwnas.search.record import write_atomically
    from hwnas.search.run import REPORT

    result = load_run(run)
    try:
        table = LatencyTable.load(result.question.device)
    except HwnasError:
        table = None
    if table is not None and table.digest != result.question.table_digest:
        table = None
    path = Path(run) / REPORT
    write_atomically(path, report_html(result, table=table))
    return path
