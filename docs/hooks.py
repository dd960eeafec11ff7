"""For mkdocs: pages that are made from the program and from other files.

`help.md`: the help of every verb. `gallery.md`: the networks of docs/gallery. `schemas.md`: every JSON
schema, with the schema itself beside it. `notebooks/NAME.md`: examples/notebooks, with the outputs in them.
In `prediction.md`: the figures, from the benchmarks' JSON.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from hwnas import schemas
from hwnas.cli.app import VERBS, _command, main
from hwnas.gallery import Entry, entries

NOTEBOOKS = Path(__file__).parents[1] / "examples" / "notebooks"
SOURCE = "examples/notebooks"

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"


def on_files(files: Any, config: Any) -> Any:
    """Adds the generated pages."""
    pages: dict[str, str | bytes] = {
        "help.md": help_page(),
        "gallery.md": gallery_page(),
        "schemas.md": schemas_page(),
    }
    pages |= {f"schemas/{name}.json": json.dumps(schemas.load(name), indent=1) for name in schemas.names()}
    for notebook in sorted(NOTEBOOKS.glob("*.ipynb")):
        pages |= notebook_pages(notebook)
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
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


def gallery_page() -> str:
    """A table for each device."""
    lines = [
        "# Gallery",
        "",
        "For every device and some latency budgets: the most accurate network that a search found. Nothing "
        "was trained. Accuracy is ImageNet-1K top-1, *estimated* from published results. Latency is "
        "predicted by the device's table, which is *measured* or *estimated*; the brackets are its 90 % "
        "interval.",
        "",
        "`gallery:DEVICE-BUDGET` is an ARCH: `hwnas describe gallery:rpi4-20ms --device rpi4`. `hwnas "
        "gallery` lists the networks. `python docs/gallery/make.py` makes them again.",
    ]
    by_device: dict[str, list[Entry]] = {}
    for one in entries():
        by_device.setdefault(one.device, []).append(one)
    for device, networks in by_device.items():
        lines += [
            "",
            f"## {device}",
            "",
            f"Latency: {networks[0].provenance}.",
            "",
            "| budget | latency ms | accuracy % | parameters | attention |",
            "|---|---|---|---|---|",
        ]
        for one in networks:
            low, high = one.latency.low, one.latency.high
            interval = "" if low is None or high is None else f" ({low:.3g} to {high:.3g})"
            lines.append(
                f"| [{one.budget_ms:g} ms](gallery/{one.name}.yaml) | {one.latency.value:.4g}{interval} "
                f"| {one.accuracy.value:.1f} ± {one.accuracy.std:.1f} | {one.params / 1e6:.2f} M "
                f"| {', '.join(one.attentions) or 'none'} |"
            )
    return "\n".join(lines) + "\n"


def schemas_page() -> str:
    """A list of the fields of every schema."""
    lines = [
        "# JSON schemas",
        "",
        "Every `--json` document and every file of a run directory has a JSON Schema (draft 2020-12). They "
        'ship with the package: `hwnas.schemas.load("search")`. Later versions may add fields; `schema` '
        "counts up when a field changes its meaning or goes. Fields whose names end in `_ms` are "
        "milliseconds.",
        "",
        "| file of a run directory | schema |",
        "|---|---|",
        *(f"| `{file}` | [{name}](#{name}) |" for file, name in schemas.FILES.items()),
    ]
    for name in schemas.names():
        schema = schemas.load(name)
        lines += ["", f"## {name}", "", f"{schema['title']} ([schema](schemas/{name}.json)).", ""]
        lines += ["| field | type | meaning |", "|---|---|---|"]
        for variant in schema.get("anyOf", [schema]):
            lines += [f"| {' | '.join(row)} |" for row in fields(variant, schema["$defs"], "")]
    return "\n".join(lines) + "\n"


def fields(part: Any, shared: Any, path: str) -> Iterator[tuple[str, str, str]]:
    """(field, type, meaning) of an object and of the objects in it."""
    for name, field in part.get("properties", {}).items():
        inner = next((one for one in field.get("anyOf", []) if one != {"type": "null"}), field)
        yield f"`{path}{name}`", type_of(field), field.get("description", inner.get("description", ""))
        rows = inner.get("items", {}) if inner.get("type") == "array" else inner
        yield from fields(rows, shared, f"{path}{name}{'[]' if rows is not inner else ''}.")


def type_of(field: Any) -> str:
    """In a few words: `number or null`, `list of string`, `architecture`."""
    if "$ref" in field:
        return str(field["$ref"].rpartition("/")[2]).replace("_", " ")
    if "anyOf" in field:
        return " or ".join(map(type_of, field["anyOf"]))
    if "enum" in field:
        return " or ".join("null" if one is None else f"`{one}`" for one in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    kinds = field.get("type", "any")
    text = " or ".join(kinds) if isinstance(kinds, list) else str(kinds)
    if "items" in field:
        text = text.replace("array", f"list of {type_of(field['items'])}")
    if isinstance(field.get("additionalProperties"), dict):
        text = text.replace("object", f"{type_of(field['additionalProperties'])} by name")
    return text


def plain_table(html: str) -> str:
    """A data frame as a table without classes and styles, which the theme styles and makes scroll."""
    html = re.sub(r"<style.*?</style>", "", html, flags=re.DOTALL)
    return re.sub(r"\s*\n\s*", "", re.sub(r' (border|class|style)="[^"]*"', "", html))


def notebook_pages(notebook: Path) -> dict[str, str | bytes]:
    """The page of a notebook, and its pictures."""
    name = notebook.stem
    found: dict[str, str | bytes] = {}
    parts: list[str] = []
    for number, cell in enumerate(json.loads(notebook.read_text(encoding="utf-8"))["cells"]):
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        parts.append(f"```python\n{text}\n```")
        for place, output in enumerate(cell["outputs"]):
            data = output.get("data", {})
            if "image/png" in data:
                picture = f"{name}-{number}-{place}.png"
                found[f"notebooks/{picture}"] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![Output of the cell]({picture})")
            elif "text/html" in data:
                parts.append(plain_table("".join(data["text/html"])))
            else:
                said = "".join(output.get("text", data.get("text/plain", [])))
                parts.append(f"```text\n{said.rstrip()}\n```")
    parts.append(f"*This page is the notebook `{SOURCE}/{notebook.name}`, with the outputs of its last run.*")
    found[f"notebooks/{name}.md"] = "\n\n".join(parts) + "\n"
    return found


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
