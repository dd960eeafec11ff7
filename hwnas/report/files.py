"""The charts of a report as files for papers: PNG and SVG, one column wide."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hwnas import plugins
from hwnas.errors import HwnasError
from hwnas.report.charts import CONFIG, Chart

__all__ = ["FORMATS", "plots"]

FORMATS = ("png", "svg")
WIDTH_PX = 252
"""A column of a two-column paper, 3.5 inches, in pixels of 1/72 inch."""
PNG_DPI = 300
VEGA_LITE = "6.4"
"""The version that the page's own library has."""
RENDER = """
import base64, json, sys
import vl_convert
asked = json.load(sys.stdin)
def drawn(spec):
    svg = vl_convert.vegalite_to_svg(spec, vl_version=asked["version"])
    png = vl_convert.vegalite_to_png(spec, vl_version=asked["version"], ppi=asked["dpi"])
    return {"svg": svg, "png": base64.b64encode(png).decode()}
json.dump([drawn(spec) for spec in asked["specs"]], sys.stdout)
"""
"""Runs in a process of its own: the renderer's V8 ends its process where address space is limited."""


def plots(charts: Sequence[Chart], folder: Path) -> list[Path]:
    """Writes the charts, e.g. `ReportModel.charts_for_files()`, in each of `FORMATS`; returns the files.

    Raises MissingPackageError without vl-convert, HwnasError when a file cannot be drawn or written.
    """
    plugins.require("vl_convert", extra="plots")
    drawn = _rendered([paper(chart) for chart in charts])
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for chart, (png, svg) in zip(charts, drawn, strict=True):
            for suffix, content in zip(FORMATS, (png, svg), strict=True):
                file = folder / f"{chart.name}.{suffix}"
                file.write_bytes(content)
                written.append(file)
    except OSError as error:
        raise HwnasError(f"{folder}: the plots cannot be written: {error.strerror}") from None
    return written


def _rendered(specs: Sequence[dict[str, Any]]) -> list[tuple[bytes, bytes]]:
    """Each chart as PNG and SVG."""
    done = subprocess.run(
        [sys.executable, "-c", RENDER],
        input=json.dumps({"specs": specs, "version": VEGA_LITE, "dpi": PNG_DPI}),
        capture_output=True,
        encoding="utf-8",
    )
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        hint = (
            ". The renderer reserves tens of GB of address space: lift the limit with 'ulimit -v unlimited'"
            if "out of memory" in done.stderr
            else f": {last[0]}"
        )
        raise HwnasError(f"the plots cannot be drawn{hint}")
    return [(base64.b64decode(one["png"]), one["svg"].encode()) for one in json.loads(done.stdout)]


def paper(chart: Chart) -> dict[str, Any]:
    """The chart's specification for a column of a paper: the page's, at this width and on white."""
    height = {} if isinstance(chart.spec["height"], dict) else {"height": min(chart.spec["height"], 190)}
    return {
        **chart.spec,
        **height,
        "width": WIDTH_PX,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "config": CONFIG | {"background": "white", "font": "sans-serif"},
    }
