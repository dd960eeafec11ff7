"""Photos and their annotations -> batches for a detector or a segmentation network.

As in `hwnas.data.loader`: decoded in worker processes, the same in any number of them; an image that
cannot be decoded, or is of another size than its annotations say, is left out of its batch and its name
comes with the batch. Sizes are left as they are, which is the network's own affair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hwnas import plugins
from hwnas.data.loader import (
    Order,
    Place,
    UnreadableImageError,
    deaths_told,
    decode,
    end_workers_at_exit,
    leave_signals,
)
from hwnas.data.randomness import isolated
from hwnas.dense.coco import Outline, Photo
from hwnas.dense.recipe import DenseRecipe

__all__ = [
    "IGNORED",
    "MAX_CLASSES",
    "DenseBatch",
    "DenseBatches",
    "Target",
    "encoded",
    "filled",
    "instance_masks",
    "semantic_map",
]


# --- outlines of annotations <-> masks of pixels, both by COCO's own code ---------------------

IGNORED = 255
"""In a semantic map: a pixel that is neither trained on nor evaluated."""


def filled(outline: Outline, *, height: int, width: int) -> np.ndarray:
    """1 inside of the outline, 0 outside: (H, W), uint8."""
    coding: Any = plugins.require("pycocotools.mask", extra="dense")
    if isinstance(outline, tuple):
        runs = coding.merge(coding.frPyObjects([list(one) for one in outline], height, width))
    elif isinstance(outline["counts"], list):
        runs = coding.frPyObjects(dict(outline), height, width)
    else:
        runs = dict(outline)
    mask: np.ndarray = np.asarray(coding.decode(runs), dtype=np.uint8)
    return mask


def encoded(mask: np.ndarray) -> dict[str, Any]:
    """COCO's run-length encoding of a mask, (H, W), as JSON can hold it."""
    coding: Any = plugins.require("pycocotools.mask", extra="dense")
    runs = coding.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(runs["size"]), "counts": runs["counts"].decode("ascii")}


def instance_masks(photo: Photo, things: Sequence[Any]) -> torch.Tensor:
    """A mask for each of these things: (N, H, W), uint8."""
    masks = torch.zeros(len(things), photo.height, photo.width, dtype=torch.uint8)
    for number, thing in enumerate(things):
        masks[number] = torch.from_numpy(filled(thing.outline, height=photo.height, width=photo.width))
    return masks


def semantic_map(photo: Photo) -> torch.Tensor:
    """The class of each pixel, 0 where there is none and 1 for the first: (H, W), int64.

    Where objects overlap, the smaller one is seen; crowds are IGNORED.
    """
    found = torch.zeros(photo.height, photo.width, dtype=torch.int64)
    for thing in sorted(photo.things, key=lambda thing: (-thing.area, thing.id)):
        assert thing.outline is not None
        inside = torch.from_numpy(filled(thing.outline, height=photo.height, width=photo.width)).bool()
        found[inside] = IGNORED if thing.crowd else thing.category + 1
    return found


# --- batches ----------------------------------------------------------------------------------


MAX_CLASSES = 254
"""Of a semantic map, which holds a class a byte: background and what is ignored have one each."""

Target = dict[str, Tensor]


class DenseBatch(NamedTuple):
    """What an update, or a step of an evaluation, sees."""

    images: list[Tensor]
    """Each (3, H, W), uint8, in its own size."""
    targets: list[Target]
    """For each image `number` (its place among the photos) and, in training, for the task: `boxes`
    (N, 4), `labels` (N,) from 1 on, `masks` (N, H, W) or `map` (H, W)."""
    unreadable: list[tuple[str, str]]
    """(name, reason) of each image that is left out."""


class DenseBatches:
    """Photos as batches, anew for each epoch. Iterate over `epoch(n)`."""

    def __init__(
        self,
        photos: Sequence[Photo],
        task: str,
        recipe: DenseRecipe,
        *,
        training: bool,
        workers: int,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """`share` is (rank, processes): each of several processes has its part of each batch."""
        end_workers_at_exit()
        self.photos = tuple(photos)
        size = min(recipe.batch_size, len(self.photos))
        self._order = Order(len(self.photos), size, recipe.seed, training, share)
        self._loader: Any = DataLoader(
            _Photos(self.photos, task, recipe, training),
            batch_sampler=self._order,
            collate_fn=_collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=leave_signals,
        )

    def __len__(self) -> int:
        """Batches of an epoch."""
        return len(self._order)

    def epoch(self, number: int) -> Iterator[DenseBatch]:
        """The batches of one epoch; order and mirroring follow from the seed and `number`."""
        self._order.epoch = number
        with deaths_told():
            with isolated("loader", number):  # the loader itself draws a seed that nothing here uses
                batches = iter(self._loader)
            yield from batches


class _Photos(Dataset[Any]):
    def __init__(self, photos: tuple[Photo, ...], task: str, recipe: DenseRecipe, training: bool) -> None:
        self.photos, self.task, self.recipe, self.training = photos, task, recipe, training

    def __getitem__(self, place: Place) -> tuple[Tensor, Target] | tuple[str, str]:
        epoch, number = place
        photo = self.photos[number]
        try:
            content = photo.path.read_bytes()
            picture = decode(content)
            if picture.size == (photo.height, photo.width) != (photo.width, photo.height):
                picture = decode(content, upright=False)  # it was annotated lying, as its pixels are stored
            if picture.size != (photo.width, photo.height):
                sizes = [f"{wide} x {high}" for wide, high in (picture.size, (photo.width, photo.height))]
                return photo.name, f"is {sizes[0]} pixels, its annotations are for {sizes[1]}"
            target = _target(photo, self.task) if self.training else {}
        except (UnreadableImageError, OSError) as error:
            return photo.name, getattr(error, "strerror", None) or str(error)
        image = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        if self.training:
            with isolated(self.recipe.seed, "photo", epoch, photo.name):
                if torch.rand(()) < self.recipe.horizontal_flip:
                    image, target = image.flip(-1), _mirrored(target, photo.width)
        return image.contiguous(), target | {"number": torch.tensor(number)}


def _target(photo: Photo, task: str) -> Target:
    """What there is to learn of a photo; crowds only as pixels that are ignored."""
    if task == "segment":
        return {"map": semantic_map(photo)}
    things = [thing for thing in photo.things if not thing.crowd]
    target = {
        "boxes": torch.tensor([thing.box for thing in things], dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor([thing.category + 1 for thing in things], dtype=torch.int64),
    }
    if task == "instance":
        target["masks"] = instance_masks(photo, things)
    return target


def _mirrored(target: Target, width: int) -> Target:
    """The target of the image with left and right swapped."""
    found = dict(target)
    for name in ("masks", "map"):
        if name in found:
            found[name] = found[name].flip(-1)
    if "boxes" in found:
        left, top, right, bottom = found["boxes"].unbind(1)
        found["boxes"] = torch.stack([width - right, top, width - left, bottom], dim=1)
    return found


def _collate(samples: list[tuple[Any, Any]]) -> DenseBatch:
    readable = [sample for sample in samples if not isinstance(sample[0], str)]
    return DenseBatch(
        images=[image for image, _ in readable],
        targets=[target for _, target in readable],
        unreadable=[sample for sample in samples if isinstance(sample[0], str)],
    )
