"""Reports of runs and trainings: one HTML file that loads nothing from elsewhere, and its charts as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwnas.data.images import Images
    from hwnas.search import SearchResult

__all__ = ["REPORT", "is_training", "write_plots", "write_report", "write_training_report"]

REPORT = "report.html"
"""The file's name in a run directory, and in a training's folder."""


def is_training(folder: Path) -> bool:
    """Whether the folder is that of a training rather than of a run."""
    return (folder / "history.jsonl").exists()


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


def write_training_report(folder: Path | str, images: Images | None = None, *, device: str = "cpu") -> Path:
    """Writes the report of a training into its folder, and returns the file's path.

    With `images`, the best network of a classifier's training predicts its val (else test) images first,
    and predictions.json keeps the outcome; without, the report has what is kept. Raises UsageError for a
    folder without a finished epoch and for images of other classes, FileFormatError for damaged files,
    HwnasError when the folder cannot be written.
    """
    from hwnas.io.atomic import write_atomically
    from hwnas.report.page import training_html
    from hwnas.report.predictions import predictions
    from hwnas.report.training import training_report

    folder = Path(folder)
    if images is not None:
        from hwnas.train import checkpoint

        predictions(checkpoint.load(folder), images, device=device).write(folder)
    path = folder / REPORT
    write_atomically(path, training_html(training_report(folder)))
    return path


def write_plots(run: SearchResult | Path | str, folder: Path | str) -> list[Path]:
    """Writes the charts of a run or a training for papers, each as PNG and as SVG; returns the files' paths.

    Needs vl-convert: raises MissingPackageError without it, what `hwnas.search.load_run` raises, and
    HwnasError when the folder cannot be written.
    """
    from hwnas.report.files import plots
    from hwnas.report.model import report_model, tables_of
    from hwnas.report.training import training_report
    from hwnas.search import load_run

    if isinstance(run, Path | str) and is_training(Path(run)):
        return plots(training_report(Path(run)).charts_for_files(), Path(folder))
    result = load_run(run) if isinstance(run, Path | str) else run
    return plots(report_model(result, tables=tables_of(result)).charts_for_files(), Path(folder))
