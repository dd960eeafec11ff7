"""UniForm's Table 2: bytes that attention moves, all nine rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "experiments" / "uniform_table2"
sys.path.insert(0, str(FOLDER))

from attention_memory import TRANSFORMERS, multi_head_bytes, reuse_bytes  # noqa: E402

# UniForm, Table 2: multi-head, reuse, reduction in percent. GB = 1e9 bytes.
TABLE_2 = {
    "Llama 2 7B": (141.73e9, 8.59e9, 93.94),
    "GPT-3": (328.56e9, 22.55e9, 93.14),
    "ALBERT xxlarge": (1.81e9, 226.49e6, 87.5),
    "BERT Large": (905.97e6, 150.99e6, 83.33),
    "Transformer XL": (679.48e6, 113.25e6, 83.33),
    "T5 Large": (905.97e6, 150.99e6, 83.33),
    "CLIP Text Encoder": (8.34e6, 4.35e6, 47.78),
    "ViT Base": (59.23e6, 18.25e6, 69.19),
    "Stable Diffusion": (16.68e6, 8.33e6, 50.06),
}


@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=lambda t: t.name)
def test_every_row_of_table_2_comes_out(transformer) -> None:  # type: ignore[no-untyped-def]
    multi_head, reuse, reduction = TABLE_2[transformer.name]
    unit = 1e9 if multi_head > 1e9 else 1e6
    small_unit = 1e9 if reuse > 1e9 else 1e6
    assert round(multi_head_bytes(transformer) / unit, 2) == round(multi_head / unit, 2)
    assert round(reuse_bytes(transformer) / small_unit, 2) == round(reuse / small_unit, 2)
    ours = 100 * (1 - reuse_bytes(transformer) / multi_head_bytes(transformer))
    assert ours == pytest.approx(reduction, abs=0.006)


def test_all_nine_rows_are_there() -> None:
    assert {transformer.name for transformer in TRANSFORMERS} == set(TABLE_2)


def test_the_command_prints_what_the_paper_prints() -> None:
    command = [sys.executable, str(FOLDER / "run.py"), "--json"]
    rows = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["rows"]
    assert {row["model"] for row in rows} == set(TABLE_2)
    for row in rows:
        assert abs(row["reduction_percent"] - row["published_reduction_percent"]) <= 0.01
