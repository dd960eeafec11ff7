"""What the tests of dense tasks share: COCO-format sets of squares and circles, and a network for them."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from hwnas.dense.recipe import DenseRecipe
from hwnas.space import ArchSpec
from hwnas.space.arch import CascadedGroup, Reuse, SingleHead, Stage, Stem

COLOURS = {"circle": (220, 60, 40), "square": (40, 70, 230)}

ARCH = ArchSpec(
    resolution=64,
    stem=Stem(stride=4),
    stages=(
        Stage(width=24, blocks=(Reuse(heads=2, kernels=(1, 3), query_kernel=3),)),
        Stage(width=32, blocks=(SingleHead(channels=16, key_dim=8),)),
        Stage(width=48, blocks=(CascadedGroup(heads=2, kernels=(3, 3), key_dim=8),)),
    ),
)
"""Three stages, three attentions, strides 4, 8 and 16."""

RECIPE = DenseRecipe(
    epochs=2,
    batch_size=8,
    lr=2e-3,
    lr_batch_size=8,
    min_lr=1e-5,
    warmup_epochs=0.5,
    weight_decay=0.02,
    clip_grad_norm=5.0,
    image_size=64,
    longest_side=96,
    pyramid_width=32,
    anchor_scale=2.0,
    workers=0,
)


def shapes(root: Path, *, train: int = 40, val: int = 16, seed: int = 3) -> Path:
    """root/train and root/val with images/ and annotations.json: up to three squares and circles each.

    Images are 64 to 96 pixels either way; every eighth shows nothing.
    """
    rng = random.Random(seed)
    for split, count in (("train", train), ("val", val)):
        write_set(root / split / "annotations.json", root / split / "images", count, rng)
    return root


def write_set(file: Path, folder: Path, count: int, rng: random.Random) -> None:
    """An annotation file, and the images that it names."""
    from PIL import Image, ImageDraw

    folder.mkdir(parents=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        width, height = rng.choice((64, 72, 80, 96)), rng.choice((64, 72, 80, 96))
        grey = rng.randrange(90, 200)
        picture = Image.new("RGB", (width, height), (grey, grey, grey))
        canvas = ImageDraw.Draw(picture)
        taken: list[tuple[float, float, float, float]] = []
        for _ in range(0 if number % 8 == 0 else rng.randrange(1, 4)):
            side = rng.randrange(18, 34)
            left, top = rng.randrange(width - side), rng.randrange(height - side)
            box = (left, top, left + side, top + side)
            if any(_overlap(box, other) for other in taken):
                continue
            taken.append(box)
            category = rng.choice((1, 2))
            if category == 1:
                canvas.ellipse((left, top, left + side - 1, top + side - 1), fill=COLOURS["circle"])
                outline = circle(left + side / 2, top + side / 2, side / 2)
                area = math.pi * side**2 / 4
            else:
                canvas.rectangle((left, top, left + side - 1, top + side - 1), fill=COLOURS["square"])
                outline = [left, top, left + side, top, left + side, top + side, left, top + side]
                area = side**2
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category,
                    "bbox": [left, top, side, side],
                    "area": area,
                    "iscrowd": 0,
                    "segmentation": [outline],
                }
            )
        picture.save(folder / f"{number:04}.png")
        images.append({"id": number, "file_name": f"{number:04}.png", "width": width, "height": height})
    categories = [{"id": 1, "name": "circle"}, {"id": 2, "name": "square"}]
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def circle(x: float, y: float, radius: float, corners: int = 24) -> list[float]:
    """A polygon around a circle's middle: x, y, x, y, ..."""
    turns = [2 * math.pi * corner / corners for corner in range(corners)]
    return [value for turn in turns for value in (x + radius * math.cos(turn), y + radius * math.sin(turn))]


def changed(file: Path, change: Any) -> None:
    """The annotation file after `change(document)`."""
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
