"""`hwnas analyze`: published analyses, computed again and set beside what was printed."""

from __future__ import annotations

from typing import Any

import typer

from hwnas.cli.common import JsonOption, emit_json, stdout

__all__ = ["app"]

app = typer.Typer()

PUBLISHED_GB: dict[str, tuple[float, float, float]] = {
    "Llama 2 7B": (141.73, 8.59, 93.94),
    "GPT-3": (328.56, 22.55, 93.14),
    "ALBERT xxlarge": (1.81, 0.22649, 87.50),
    "BERT Large": (0.90597, 0.15099, 83.33),
    "Transformer XL": (0.67948, 0.11325, 83.33),
    "T5 Large": (0.90597, 0.15099, 83.33),
    "CLIP Text Encoder": (0.00834, 0.00435, 47.78),
    "ViT Base": (0.05923, 0.01825, 69.19),
    "Stable Diffusion": (0.01668, 0.00833, 50.06),
}
"""UniForm (Yeom and Kim), Table 2: memory movement of multi-head and of reuse attention, in GB
(1e9 bytes), and by how many percent the second is smaller, as printed there."""


@app.callback()
def group() -> None:
    """Reproduce published analyses."""


@app.command("attention-memory", short_help="Memory that attention moves (UniForm, Table 2).")
def attention_memory(as_json: JsonOption = False) -> None:
    """Memory that attention moves, multi-head against reuse: UniForm's Table 2, computed again."""
    from hwnas.space.attention_memory import TRANSFORMERS, multi_head_bytes, reuse_bytes

    rows: list[dict[str, Any]] = []
    for transformer in TRANSFORMERS:
        multi_head, reuse = multi_head_bytes(transformer), reuse_bytes(transformer)
        published_multi_head, published_reuse, published_percent = PUBLISHED_GB[transformer.name]
        rows.append(
            {
                "model": transformer.name,
                "tokens": transformer.tokens,
                "head_dim": transformer.head_dim,
                "heads": transformer.heads,
                "layers": transformer.layers,
                "multi_head_bytes": multi_head,
                "reuse_bytes": reuse,
                "reduction_percent": 100 * (1 - reuse / multi_head),
                "published_multi_head_gb": published_multi_head,
                "published_reuse_gb": published_reuse,
                "published_reduction_percent": published_percent,
            }
        )
    if as_json:
        emit_json({"schema": 1, "source": "UniForm, Table 2", "rows": rows})
        return

    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", no_wrap=True)
    for heading in ("multi-head GB", "published", "reuse GB", "published", "reduction %", "published"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row["model"],
            f"{row['multi_head_bytes'] / 1e9:.5f}",
            f"{row['published_multi_head_gb']:g}",
            f"{row['reuse_bytes'] / 1e9:.5f}",
            f"{row['published_reuse_gb']:g}",
            f"{row['reduction_percent']:.2f}",
            f"{row['published_reduction_percent']:.2f}",
        )
    stdout().print(table)
