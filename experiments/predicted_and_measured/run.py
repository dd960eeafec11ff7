"""Searches on this machine's table, exports the best network, measures the front and all presets.

Writes results.json (what `hwnas measure` said) and results.md (the table) into this folder. Everything
runs through the command line, as a user would. Run it alone: another busy process shows in the timings.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hwnas.metrics import mape_percent, spearman, within_percent

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cpu-x86", help="a device that was measured on this machine")
    parser.add_argument("--budget", default="4ms")
    parser.add_argument("--work", required=True, type=Path, help="folder for the run and the ONNX file")
    given = parser.parse_args()

    run = given.work / "run"
    hwnas("search", "--device", given.device, "--budget", given.budget, "--out", str(run))
    hwnas("export", f"{run}#1", "--out", str(given.work / "best.onnx"))
    document = json.loads(hwnas("measure", str(run), "presets", "--device", given.device, "--json"))
    document["budget"] = given.budget
    (HERE / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    text = written(document)
    (HERE / "results.md").write_text(text)
    print(text)


def hwnas(*arguments: str) -> str:
    """What the command prints; its messages go to this process's own stderr."""
    command = [sys.executable, "-m", "hwnas", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def written(document: dict[str, Any]) -> str:
    """The results as Markdown."""
    networks = document["networks"]
    front = [row for row in networks if "#" in row["name"]]
    macro = [row for row in networks if "#" not in row["name"] and not outside(row["name"])]
    lines = [
        f"Measured on: {document['board']}; {document['runtime']} {document['runtime_version']}, "
        f"{document['threads']} thread, batch {document['batch']}, {document['precision']}. "
        f"Budget of the search: {document['budget']}.",
        "",
        "| networks | count | MAPE | within 5 % | within 10 % | Spearman | in the 90 % interval |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [summary("the front", front), summary("presets of the default space", macro)]
    lines += ["", "| network | measured ms | predicted ms (90 % interval) | error |", "|---|---|---|---|"]
    for row in networks:
        mark = " (not of the default space)" if outside(row["name"]) else ""
        interval = f"{row['predicted_low_ms']:.3f} to {row['predicted_high_ms']:.3f}"
        lines.append(
            f"| {row['name']}{mark} | {row['measured_ms']:.3f} | {row['predicted_ms']:.3f} ({interval}) "
            f"| {row['error_percent']:+.1f} % |"
        )
    return "\n".join(lines) + "\n"


def outside(name: str) -> bool:
    """Whether the preset is of another design than the one that is searched."""
    return name.startswith("elevit") or name == "uniform-t-paper"


def summary(label: str, rows: Sequence[dict[str, Any]]) -> str:
    measured = [row["measured_ms"] for row in rows]
    predicted = [row["predicted_ms"] for row in rows]
    held = [row["predicted_low_ms"] <= row["measured_ms"] <= row["predicted_high_ms"] for row in rows]
    return (
        f"| {label} | {len(rows)} | {mape_percent(measured, predicted):.1f} % "
        f"| {within_percent(measured, predicted, 5):.0f} % | {within_percent(measured, predicted, 10):.0f} % "
        f"| {spearman(measured, predicted):.3f} | {100 * sum(held) / len(held):.0f} % |"
    )


if __name__ == "__main__":
    main()
