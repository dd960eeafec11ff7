"""For mkdocs: the page `help.md`, and the figures of `prediction.md` from the benchmarks' JSON."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from hwnas.cli.app import VERBS, _command, main

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"


def on_files(files: Any, config: Any) -> Any:
    """Adds the generated page."""
    files.append(File.generated(config, "help.md", content=help_page()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fills in what is generated from the benchmarks."""
    if "<!-- prediction:" not in markdown:
        return markdown
    filled = markdown.replace("<!-- prediction: table -->", prediction_table())
    return filled.replace("<!-- prediction: figure -->", prediction_figure())


def help_page() -> str:
    """A section for each verb and each command of a group."""
    os.environ["COLUMNS"] = "90"
    sections = ["# Help of every verb\n"]
    for verb in VERBS:
        command = _command(verb).commands[verb]
        for words in [(verb,), *((verb, name) for name in getattr(command, "commands", {}))]:
            text = io.StringIO()
            with contextlib.redirect_stdout(text):
                main([*words, "--help"])
            indented = "".join(f"    {line}".rstrip() + "\n" for line in text.getvalue().splitlines())
            sections.append(f"## hwnas {' '.join(words)}\n\n{indented}")
    return "\n".join(sections)


def measured_tables() -> list[dict[str, Any]]:
    """What the benchmarks printed of each measured table."""
    files = sorted(RESULTS.glob("cpu-x86*.json"))
    return [table for file in files for table in json.loads(file.read_text())["tables"]]


def prediction_table() -> str:
    """Mean absolute error of each measured table, beside simpler predictions and a second timing."""
    rows = ["| table | networks | mean error | within 5 % | MACs regression | plain sum | timed again |",
            "|---|---|---|---|---|---|---|"]  # fmt: skip
    for table in measured_tables():
        scores = table["scores"]
        own = scores[f"table {table['table']}"]

        def error(name: str, scores: Any = scores) -> str:
            return f"{scores[name]['mape_percent']:.1f} %" if name in scores else ""

        rows.append(
            f"| `{table['table']}` | {own['networks']} | {own['mape_percent']:.1f} % | "
            f"{own['within_5_percent']:.0f} % | {error('MACs regression')} | {error('plain sum of rows')} | "
            f"{error('noise floor: timed again')} |"
        )
    return "\n".join(rows)


def prediction_figure(side: int = 420, margin: int = 46) -> str:
    """Predicted over measured latency of the networks that `cpu-x86` had not seen, as SVG."""
    (table,) = (one for one in measured_tables() if one["table"] == "cpu-x86")
    points = [(one["measured_ms"], one["predicted_ms"]) for one in table["networks"]]
    low, high = 0.9 * min(map(min, points)), 1.1 * max(map(max, points))

    def place(value: float) -> float:
        return margin + (side - margin - 8) * math.log(value / low) / math.log(high / low)

    def at(x: float, y: float) -> str:
        return f"{place(x):.1f},{side - place(y):.1f}"

    ticks = [tick for tick in (1, 2, 3, 5, 10, 20, 30) if low < tick < high]
    dots = "".join(
        f'<circle cx="{place(x):.1f}" cy="{side - place(y):.1f}" r="2.5" fill="#0072B2" fill-opacity=".6"/>'
        for x, y in points
    )
    labels = "".join(
        f'<text x="{place(tick):.0f}" y="{side - margin + 16}" text-anchor="middle">{tick}</text>'
        f'<text x="{margin - 6}" y="{side - place(tick) + 4:.0f}" text-anchor="end">{tick}</text>'
        for tick in ticks
    )
    band = " ".join((at(low, low), at(low, 1.05 * low), at(high / 1.05, high), at(high, high),
                     at(high, high / 1.05), at(1.05 * low, low)))  # fmt: skip
    middle = (side + margin) / 2
    return (
        f'<svg viewBox="0 0 {side} {side}" width="{side}" role="img" fill="currentColor" font-size="12" '
        'aria-label="predicted over measured latency">'
        f'<polygon points="{band}" fill="#56B4E9" fill-opacity=".25"/>'
        f'<polyline points="{at(low, low)} {at(high, high)}" stroke="currentColor" fill="none"/>'
        f"{dots}{labels}"
        f'<text x="{middle}" y="{side - 8}" text-anchor="middle">measured ms</text>'
        f'<text transform="translate(14 {side - middle}) rotate(-90)" text-anchor="middle">'
        "predicted ms</text>"
        "</svg>"
    )
