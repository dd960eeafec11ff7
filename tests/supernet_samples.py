"""What the supernet tests share: a small space with all four attentions, settings for a moment."""

from __future__ import annotations

import dataclasses
import itertools
import random
from pathlib import Path

from train_samples import COLOURS, encoded

from hwnas.space import SearchSpace
from hwnas.supernet.settings import Settings

__all__ = ["SETTINGS", "SPACE", "WITH_BOTTLENECKS", "halves"]

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

WITH_BOTTLENECKS = dataclasses.replace(
    SPACE, classes=9, stages=(SPACE.stages[0], dataclasses.replace(SPACE.stages[1], width=(2, 16, 32)))
)
"""The same with networks that end in two channels, for nine classes."""

SETTINGS = Settings(epochs=3, batch_size=12, random_networks=1, held_back=9, calibration_images=12, lr=3e-3)


def halves(root: Path, *, train: int = 30, test: int = 1) -> Path:
    """root/train/COLOUR-COLOUR/*.jpg: the upper half has the one colour and the lower half the other, all
    of it noisy. Nine classes, easy to see, but not for a network with next to nothing in it."""
    from PIL import Image

    rng = random.Random(7)

    def noisy(colour: tuple[int, int, int]) -> tuple[int, ...]:
        return tuple(min(255, max(0, value + rng.randint(-60, 60))) for value in colour)

    for split, count in (("train", train), ("test", test)):
        for (upper, first), (lower, second) in itertools.product(COLOURS.items(), repeat=2):
            folder = root / split / f"{upper}-{lower}"
            folder.mkdir(parents=True)
            for number in range(count):
                picture = Image.new("RGB", (16, 16))
                picture.putdata([noisy(first if place < 128 else second) for place in range(256)])
                (folder / f"{number:03}.jpg").write_bytes(encoded(picture, "JPEG"))
    return root
