"""What a file's outputs say of a photo: classes, boxes, a class for every pixel. numpy only, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.data.preprocessing import Prepared, bilinear

__all__ = ["Boxes", "class_map", "detections", "probabilities"]

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Boxes:
    """The objects found in a photo, likeliest first."""

    boxes: Array
    """(N, 4): left, top, right, bottom in pixels of the photo."""
    labels: NDArray[np.int64]
    """(N,): places in the class names."""
    scores: Array
    """(N,): from 0 to 1."""


def probabilities(logits: Array) -> Array:
    """The softmax over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: Array = powers / powers.sum(axis=-1, keepdims=True)
    return result


def detections(
    boxes: Array,
    scores: Array,
    settings: Mapping[str, Any],
    prepared: Prepared,
    photo_size: tuple[int, int],
) -> Boxes:
    """The objects of one photo from a detector's outputs (A, 4) and (A, classes).

    As torchvision's RetinaNet: pairs of anchor and class above `score_threshold`, the best
    `candidates_per_map` of each map, non-maximum suppression within each class at `nms_iou`, at most
    `max_detections`. `photo_size` is (width, height).
    """
    found: list[tuple[Array, NDArray[np.int64], Array]] = []
    start = 0
    for anchors in settings["anchors_per_map"]:
        part = scores[start : start + anchors].reshape(-1)
        (kept,) = np.nonzero(part > settings["score_threshold"])
        kept = kept[np.argsort(-part[kept], kind="stable")][: settings["candidates_per_map"]]
        places, labels = np.divmod(kept, scores.shape[1])
        found.append((boxes[start + places], labels, part[kept]))
        start += anchors
    own, labels, confidences = (np.concatenate(parts) for parts in zip(*found, strict=True))
    limits = np.array([prepared.width, prepared.height] * 2, np.float32)
    own = np.minimum(np.maximum(own, 0), limits)
    chosen = _suppressed(own, labels, confidences, settings["nms_iou"])[: settings["max_detections"]]
    to_photo = np.array(photo_size * 2, np.float32) / limits
    return Boxes(own[chosen] * to_photo, labels[chosen], confidences[chosen])


def _suppressed(boxes: Array, labels: NDArray[np.int64], scores: Array, limit: float) -> NDArray[np.int64]:
    """Places of the boxes that no better box of their class overlaps by more than `limit`, best first."""
    order = np.argsort(-scores, kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    while len(order):
        best, rest = int(order[0]), order[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        high = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        overlap = shared / np.maximum(areas[best] + areas[rest] - shared, 1e-9)
        order = rest[(overlap <= limit) | (labels[rest] != labels[best])]
    return np.array(kept, np.int64)


def class_map(logits: Array, prepared: Prepared, photo_size: Sequence[int]) -> NDArray[np.uint8]:
    """The class of each pixel of the photo, (height, width), 0 for none, from logits (classes + 1, H, W)."""
    width, height = photo_size
    best = np.full((height, width), -np.inf, np.float32)
    classes = np.zeros((height, width), np.uint8)
    for number, plane in enumerate(logits):
        values = bilinear(plane[: prepared.height, : prepared.width], height, width)
        better = values > best
        best[better], classes[better] = values[better], number
    return classes
