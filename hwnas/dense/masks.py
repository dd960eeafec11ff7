"""Outlines of annotations <-> masks of pixels, both by COCO's own code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from hwnas import plugins
from hwnas.dense.annotations import Outline, Photo

__all__ = ["IGNORED", "encoded", "filled", "instance_masks", "semantic_map"]

IGNORED = 255
"""In a semantic map: a pixel that is neither learnt from nor judged."""


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
