"""UniForm's Table 2 computed again: the memory that multi-head and reuse attention move.

python experiments/uniform_table2/run.py [--json]
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from attention_memory import TRANSFORMERS, multi_head_bytes, reuse_bytes
from rich.console import Console
from rich.table import Table

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


def rows() -> list[dict[str, Any]]:
    """A row per transformer: its sizes, bytes moved by each attention, and what the paper prints."""
    found: list[dict[str, Any]] = []
    for transformer in TRANSFORMERS:
        multi_head, reuse = multi_head_bytes(transformer), reuse_bytes(transformer)
        published_multi_head, published_reuse, published_percent = PUBLISHED_GB[transformer.name]
        found.append(
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
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    if parser.parse_args().json:
        print(json.dumps({"schema": 1, "source": "UniForm, Table 2", "rows": rows()}, indent=2))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", no_wrap=True)
    for heading in ("multi-head GB", "published", "reuse GB", "published", "reduction %", "published"):
        table.add_column(heading, justify="right")
    for row in rows():
        table.add_row(
            row["model"],
            f"{row['multi_head_bytes'] / 1e9:.5f}",
            f"{row['published_multi_head_gb']:g}",
            f"{row['reuse_bytes'] / 1e9:.5f}",
            f"{row['published_reuse_gb']:g}",
            f"{row['reduction_percent']:.2f}",
            f"{row['published_reduction_percent']:.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
