"""The report of a run: one HTML file that loads nothing from elsewhere, and its charts as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwnas.search import SearchResult

__all__ = ["REPORT", "write_plots", "write_report"]

REPORT = "report.html"
"""The file's name in a run directory."""


def write_report(run: SearchResult | Path | str) -> Path:
    """Writes the report of a run into its directory, and returns the file's path.

    Where a device's table is no longer at hand, or has changed since, the report says so and has no
    latencies per op. Raises what `hwnas.search.load_run` raises, and UsageError for a result that was
    kept in memory only.
    """
    from hwnas.errors import UsageError
    from hwnas.io.atomic import write_atomically
    from hwnas.report.model import tables_of
    from hwnas.report.page import report_html
    from hwnas.search import load_run

    result = load_run(run) if isinstance(run, Path | str) else run
    if result.path is None:
        raise UsageError("a report is written into a run directory: give the search an `out`")
    path = result.path / REPORT
    write_atomically(path, report_html(result, tables=tables_of(result)))
    return path


def write_plots(run: SearchResult | Path | str, folder: Path | str) -> list[Path]:
    """Writes the charts of a run for papers, each as PNG and as SVG, and returns the files' paths.

    Needs vl-convert: raises MissingPackageError without it, what `hwnas.search.load_run` raises, and
    HwnasError when the folder cannot be written.
    """
    from hwnas.report.files import plots
    from hwnas.report.model import report_model, tables_of
    from hwnas.search import load_run

    result = load_run(run) if isinstance(run, Path | str) else run
    return plots(report_model(result, tables=tables_of(result)), Path(folder))
