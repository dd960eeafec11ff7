"""A folder that explains a network: pictures for some images, and explanation.json with the figures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hwnas import plugins
from hwnas.data.images import subset
from hwnas.data.loader import UnreadableImageError, decode, evaluation_batches
from hwnas.data.preprocessing import MEAN, STD
from hwnas.data.sources import open_images
from hwnas.errors import FileFormatError, UsageError, did_you_mean
from hwnas.explain import pictures
from hwnas.explain.attention_maps import SeenAttention, grad_cam, look, stage_ends
from hwnas.explain.head_similarity import HeadSimilarity, mean_of_maxima, mean_of_others, similarities
from hwnas.explain.pictures import Picture
from hwnas.io.atomic import write_whole
from hwnas.nn.network import Network
from hwnas.train.recipe import Recipe

__all__ = ["SIMILARITY_IMAGES", "Subject", "explain", "wanted_class"]

SIMILARITY_IMAGES = 128
"""Images of a data set that heads are compared on, as many as in SHViT's section 2.2."""

_SIDE, _SMALL_SIDE = 224, 112  # of the tiles, in pixels
_TOP = 5
_MOST_HEADS = 32  # with more, their matrices are a picture and not in the JSON


@dataclass(frozen=True, slots=True)
class Subject:
    """What is explained."""

    name: str
    network: Network
    weights: str
    """Where they are from: trained, random, or the name of a start."""
    classes_names: tuple[str, ...]
    """Empty where classes have no names."""
    recipe: Recipe
    """How images are cut and normalised."""

    def class_name(self, number: int) -> str:
        return self.classes_names[number] if self.classes_names else str(number)


def explain(
    subject: Subject, image_files: Sequence[Path], out: Path, *, target: int | None, data: Path | None
) -> dict[str, Any]:
    """Writes NAME.grad-cam.png and NAME.attention.png for each image, head-similarity.png and
    explanation.json into `out`, which is made; what that JSON says.

    `target` is the class that Grad-CAM explains, the likeliest one of each image by default. Heads are
    compared on SIMILARITY_IMAGES images of `data` (its val, else test images), or else on the images.
    Raises FileFormatError for an image that cannot be decoded, UsageError for a folder that cannot be
    written or a data set without images.
    """
    batches = [(name, _read(file, subject)) for name, file in _names(image_files)]
    if data is None:
        compared = similarities(subject.network, (pixels for _, pixels in batches))
    else:
        compared = similarities(subject.network, _data_batches(subject, data))
    try:
        out.mkdir(parents=True, exist_ok=True)
        images = [_image(subject, name, pixels, out, target) for name, pixels in batches]
        if compared:
            write_whole(out / "head-similarity.png", pictures.png(_similarity_sheet(compared)))
        document = {
            "schema": 1,
            "name": subject.name,
            "id": subject.network.arch.id,
            "weights": subject.weights,
            "images": images,
            "heads": [_compared(own) for own in compared],
            "heads_picture": "head-similarity.png" if compared else None,
            "heads_data": None if data is None else data.name,
        }
        text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_whole(out / "explanation.json", text)
    except OSError as error:
        raise UsageError(
            f"{out}: cannot be written: {error.strerror}: choose another folder with --out"
        ) from None
    return document


def wanted_class(subject: Subject, text: str) -> int:
    """The number of the class that is named or numbered by `text`; raises UsageError for another."""
    if text in subject.classes_names:
        return subject.classes_names.index(text)
    classes = subject.network.arch.classes
    if text.isascii() and text.isdigit() and int(text) < classes:
        return int(text)
    named = " or a name that it learned" if subject.classes_names else ""
    hint = did_you_mean(text, subject.classes_names)
    raise UsageError(f"--class must be a number from 0 to {classes - 1}{named}, got '{text}'.{hint}")


# --- what is read ------------------------------------------------------------------------------


def _names(files: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Each file with a name for its pictures: its own without the suffix, numbered where two have it."""
    taken: dict[str, int] = {}
    for file in files:
        taken[file.stem] = taken.get(file.stem, 0) + 1
        yield (file.stem if taken[file.stem] == 1 else f"{file.stem}-{taken[file.stem]}"), file


def _read(file: Path, subject: Subject) -> Tensor:
    """The image as the network gets it: (1, 3, R, R)."""
    timm_data: Any = plugins.require("timm.data", extra="torch")
    side = subject.network.arch.resolution
    cut = timm_data.create_transform(
        side, is_training=False, crop_pct=subject.recipe.eval_crop, interpolation="bicubic"
    )
    try:
        pixels: Tensor = cut(decode(file.read_bytes()))
    except OSError as error:
        raise UsageError(f"--image {file}: cannot be read: {error.strerror}") from None
    except UnreadableImageError as error:
        raise FileFormatError(
            f"--image {file}: must be an image that Pillow can decode, got: {error}"
        ) from None
    return pixels[None]


def _data_batches(subject: Subject, data: Path) -> Iterator[Tensor]:
    images = open_images(data)
    available = images.split(images.evaluation_split())
    classes = sorted({image.class_name for image in available})
    chosen = subset(available, max(SIMILARITY_IMAGES, len(classes)), subject.recipe.seed)
    batches = evaluation_batches(
        images,
        chosen,
        classes,
        subject.recipe.augmentation,
        batch_size=subject.recipe.batch_size,
        seed=subject.recipe.seed,
        size=subject.network.arch.resolution,
        workers=0,
    )
    found = False
    for batch in batches.epoch(0):
        if len(batch.images):
            found = True
            yield batch.images
    if not found:
        raise UsageError(f"{data}: none of the {len(chosen)} images could be decoded")


# --- one image ---------------------------------------------------------------------------------


def _image(subject: Subject, name: str, pixels: Tensor, out: Path, target: int | None) -> dict[str, Any]:
    logits, seen = look(subject.network, pixels)
    chances = logits[0].double().softmax(dim=0)
    likeliest = chances.topk(min(_TOP, len(chances)))
    chosen = int(likeliest.indices[0]) if target is None else target
    ends = stage_ends(subject.network)
    maps = grad_cam(subject.network, pixels, torch.tensor([chosen]), list(ends.values()))
    cams = {stage: own[0] for stage, own in zip(ends, maps, strict=True)}
    heading = f"{name}: {subject.class_name(chosen)}, {100 * float(chances[chosen]):.1f} %"
    sheets = {
        f"{name}.grad-cam.png": _grad_cam_sheet(heading, pixels[0], cams),
        f"{name}.attention.png": _attention_sheet(heading, pixels[0], seen),
    }
    for file, sheet in sheets.items():
        write_whole(out / file, pictures.png(sheet))
    return {
        "name": name,
        "classes": [
            {"class": int(number), "name": subject.class_name(int(number)), "probability": float(chance)}
            for chance, number in zip(*likeliest, strict=True)
        ],
        "explained": {"class": chosen, "name": subject.class_name(chosen)},
        "grad_cam": {stage: _rounded(own) for stage, own in cams.items()},
        "pictures": list(sheets),
    }


def _grad_cam_sheet(heading: str, pixels: Tensor, cams: dict[str, Tensor]) -> Picture:
    picture = pictures.shown(pixels, MEAN, STD, _SIDE)
    tiles = [
        (f"{stage}, {len(own)} x {len(own)}", pictures.over(picture, own)) for stage, own in cams.items()
    ]
    return pictures.grid([(f"Grad-CAM of {heading}", [("image", picture), *tiles])])


def _attention_sheet(heading: str, pixels: Tensor, seen: Sequence[SeenAttention]) -> Picture:
    picture = pictures.shown(pixels, MEAN, STD, _SMALL_SIDE)
    title = f"{heading}: the attention that each position gets, from least to most, as parts of the mean"
    rows: list[tuple[str, Sequence[tuple[str, Picture]]]] = [(title, [("image", picture)])]
    for own in seen:
        side, received = own.received.shape[-1], own.received[0]
        tiles = []
        for number, values in enumerate(received):
            parts = values / values.mean()
            whose = f"head {number}" if len(received) > 1 else "all heads" if own.heads > 1 else "the head"
            caption = f"{whose} {float(parts.min()):.2f}-{float(parts.max()):.2f}"
            tiles.append((caption, pictures.over(picture, parts - parts.min())))
        rows.append((f"{own.place}: {own.kind}, {own.heads} heads, {side} x {side}", tiles))
    return pictures.grid(rows)


# --- heads -------------------------------------------------------------------------------------


def _similarity_sheet(compared: Sequence[HeadSimilarity]) -> Picture:
    rows = []
    for own in compared:
        tiles = [("outputs (CKA)", pictures.matrix(own.outputs, _SMALL_SIDE))]
        if own.maps is not None:
            tiles.insert(0, ("maps (cosine)", pictures.matrix(own.maps, _SMALL_SIDE)))
        rows.append((f"{own.place}: {own.kind}, {own.heads} heads, dark 0, bright 1", tiles))
    return pictures.grid(rows)


def _compared(own: HeadSimilarity) -> dict[str, Any]:
    return {
        "place": own.place,
        "kind": own.kind,
        "heads": own.heads,
        "images": own.images,
        "maps_cosine": None if own.maps is None else _matrix(own.maps),
        "outputs_cka": _matrix(own.outputs),
    }


def _matrix(values: Tensor) -> dict[str, Any]:
    return {
        "mean_of_others": round(mean_of_others(values), 4),
        "mean_of_maxima": round(mean_of_maxima(values), 4),
        "matrix": _rounded(values) if len(values) <= _MOST_HEADS else None,
    }


def _rounded(values: Tensor) -> list[list[float]]:
    return [[float(f"{value:.5g}") for value in row] for row in values.tolist()]
