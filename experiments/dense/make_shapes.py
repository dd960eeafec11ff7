"""Makes the data of this experiment: COCO-format images of circles, squares and triangles on noise.

    python experiments/dense/make_shapes.py FOLDER [--train 200] [--val 50] [--seed 0]

Sides are 96 to 160 pixels; one to five shapes of 14 to 64 pixels an image, which may hide each other in
part; colours say nothing about the class. Annotations are boxes and polygons of the whole shape.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("circle", "square", "triangle")
CORNERS = {"circle": 32, "square": 4, "triangle": 3}


def polygon(kind: str, x: float, y: float, radius: float, turn: float) -> list[tuple[float, float]]:
    """The corners of a shape around (x, y)."""
    count = CORNERS[kind]
    turns = [turn + 2 * math.pi * corner / count for corner in range(count)]
    return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in turns]


def area(corners: list[tuple[float, float]]) -> float:
    """Of a polygon, by the shoelace formula."""
    following = corners[1:] + corners[:1]
    return abs(sum(x * w - z * y for (x, y), (z, w) in zip(corners, following, strict=True))) / 2


def make_split(folder: Path, count: int, rng: random.Random) -> None:
    """`count` images in folder/images, and folder/annotations.json."""
    (folder / "images").mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        width, height = rng.randrange(96, 161), rng.randrange(96, 161)
        noise = np.random.default_rng(rng.randrange(2**32))
        ground = noise.normal([rng.randrange(60, 196) for _ in range(3)], 18.0, (height, width, 3))
        picture = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
        canvas = ImageDraw.Draw(picture)
        for _ in range(rng.randrange(1, 6)):
            kind = rng.choice(CLASSES)
            radius = rng.uniform(7, 32)
            x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
            corners = polygon(kind, x, y, radius, rng.uniform(0, 2 * math.pi))
            canvas.polygon(corners, fill=tuple(rng.randrange(256) for _ in range(3)))
            xs, ys = zip(*corners, strict=True)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": CLASSES.index(kind) + 1,
                    "bbox": [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)],
                    "area": area(corners),
                    "iscrowd": 0,
                    "segmentation": [[value for corner in corners for value in corner]],
                }
            )
        picture.save(folder / "images" / f"{number:05}.jpg", quality=92)
        images.append({"id": number, "file_name": f"{number:05}.jpg", "width": width, "height": height})
    categories = [{"id": place + 1, "name": name} for place, name in enumerate(CLASSES)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(document))


def main() -> None:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=200)
    parser.add_argument("--val", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    for split, count in (("train", asked.train), ("val", asked.val)):
        make_split(asked.folder / split, count, random.Random(f"{asked.seed} {split}"))


if __name__ == "__main__":
    main()
