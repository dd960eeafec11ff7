"""What the supernet tests share: a small space with all four attentions, settings for a moment."""

from __future__ import annotations

from hwnas.space import SearchSpace
from hwnas.supernet.settings import Settings

__all__ = ["SETTINGS", "SPACE"]

SPACE = SearchSpace.from_dict(
    {
        "format": 1,
        "name": "tiny",
        "resolution": [16],
        "stem_stride": [4],
        "classes": 3,
        "attention": [
            "none",
            {"type": "reuse", "heads": 4, "kernels": [1, 3, 5, 7]},
            {"type": "reuse", "heads": 2, "kernels": [3, 5], "query_kernel": 3},
            {"type": "single-head", "ratio": 2, "key_dim": 4},
            {"type": "single-head", "ratio": 4},
            {"type": "cascaded-group", "heads": 4, "kernels": [5, 5, 3, 3], "key_dim": 4},
            {"type": "cascaded-group", "heads": 2, "kernels": [5, 3]},
            {"type": "element-wise"},
        ],
        "stages": [
            {"width": [8, 16, 24], "depth": [1, 2], "layout": ["sandwich", "dw-attention-ffn"]},
            {"width": [16, 32], "depth": [1, 2], "ffn_ratio": [2, 3], "layout": ["dw-attention-ffn"]},
        ],
    }
)
"""Widths, depths, ratios, heads, kernels, key dimensions, layouts and attention types to choose from."""

SETTINGS = Settings(epochs=3, batch_size=12, held_back=9, calibration_images=24, lr=3e-3)
