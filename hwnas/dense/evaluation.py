"""How good a detector or a segmentation network is on photos."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hwnas import plugins
from hwnas.dense.coco import Photo
from hwnas.dense.data import IGNORED, DenseBatches, encoded, semantic_map
from hwnas.dense.networks import DenseNetwork
from hwnas.errors import FileFormatError

__all__ = [
    "LEADING",
    "DenseEvaluation",
    "InstanceScores",
    "PixelScores",
    "Scores",
    "evaluate",
    "scores_of",
]


# --- scores: average precision by COCO's own code, and mean intersection over union -----------
# All figures are percent:
#
#     box_ap, box_ap50     average precision of boxes, over overlaps of 0.5 to 0.95 and at 0.5
#     mask_ap, mask_ap50   the same of masks
#     miou                 mean over classes, and what is none, of intersection over union of pixels
#     pixel_accuracy       pixels of the right class

LEADING = {"detect": "box_ap", "instance": "mask_ap", "segment": "miou"}
"""By task, the score that the best epoch is chosen by."""

MASK_THRESHOLD = 0.5


class Scores(Protocol):
    """Takes predictions image by image, then says how good they were."""

    def add(self, photo: Photo, predicted: Mapping[str, Tensor]) -> None:
        """What a network predicted for a photo, on the CPU."""

    def percent(self) -> dict[str, float]:
        """The scores over all that was added."""


def scores_of(task: str, classes: int) -> Scores:
    """The scores of a task over so many classes."""
    if task == "segment":
        return PixelScores(classes)
    return InstanceScores(classes, ("bbox", "segm") if task == "instance" else ("bbox",))


class InstanceScores:
    """Average precision of boxes ("bbox") and masks ("segm")."""

    def __init__(self, classes: int, kinds: Sequence[str]) -> None:
        self.classes, self.kinds = classes, tuple(kinds)
        self._photos: list[Photo] = []
        self._found: list[dict[str, Any]] = []

    def add(self, photo: Photo, predicted: Mapping[str, Tensor]) -> None:
        self._photos.append(photo)
        boxes, labels, scores = (predicted[name].tolist() for name in ("boxes", "labels", "scores"))
        for number, (left, top, right, bottom) in enumerate(boxes):
            found = {
                "image_id": len(self._photos),
                "category_id": labels[number],
                "bbox": [left, top, right - left, bottom - top],
                "score": scores[number],
            }
            if "segm" in self.kinds:
                mask = predicted["masks"][number, 0] >= MASK_THRESHOLD
                found["segmentation"] = encoded(mask.numpy())
            self._found.append(found)

    def percent(self) -> dict[str, float]:
        api: Any = plugins.require("pycocotools.coco", extra="dense")
        coco: Any = plugins.require("pycocotools.cocoeval", extra="dense")
        names = {"bbox": "box", "segm": "mask"}
        scores: dict[str, float] = {}
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
            truth = api.COCO()
            truth.dataset = self._truth()
            truth.createIndex()
            for kind in self.kinds:
                values = np.zeros(2)
                if self._found:
                    other = "segmentation" if kind == "bbox" else "bbox"  # an area is of what is evaluated
                    found = truth.loadRes(
                        [{key: value for key, value in one.items() if key != other} for one in self._found]
                    )
                    coco_eval = coco.COCOeval(truth, found, kind)
                    coco_eval.evaluate()
                    coco_eval.accumulate()
                    coco_eval.summarize()
                    values = np.maximum(coco_eval.stats[:2], 0.0)  # -1 where there is nothing to find
                scores[f"{names[kind]}_ap"], scores[f"{names[kind]}_ap50"] = (100 * values).tolist()
        return scores

    def _truth(self) -> dict[str, Any]:
        """The photos in COCO's form, images numbered from 1."""
        annotations: list[dict[str, Any]] = []
        for number, photo in enumerate(self._photos, start=1):
            for thing in photo.things:
                left, top, right, bottom = thing.box
                outline = thing.outline
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": thing.category + 1,
                        "bbox": [left, top, right - left, bottom - top],
                        "area": thing.area,
                        "iscrowd": int(thing.crowd),
                        "segmentation": [list(one) for one in outline]
                        if isinstance(outline, tuple)
                        else dict(outline or {}),
                    }
                )
        return {
            "images": [
                {"id": number, "width": photo.width, "height": photo.height}
                for number, photo in enumerate(self._photos, start=1)
            ],
            "annotations": annotations,
            "categories": [{"id": number, "name": str(number)} for number in range(1, self.classes + 1)],
        }


class PixelScores:
    """Mean intersection over union, from a table of how often class a was taken for class b."""

    def __init__(self, classes: int) -> None:
        self._size = classes + 1  # and 0, none of them
        self._counts = torch.zeros(self._size, self._size, dtype=torch.int64)

    def add(self, photo: Photo, predicted: Mapping[str, Tensor]) -> None:
        truth = semantic_map(photo)
        counted = truth != IGNORED
        pairs = truth[counted] * self._size + predicted["map"][counted]
        self._counts += torch.bincount(pairs, minlength=self._size**2).view(self._size, self._size)

    def percent(self) -> dict[str, float]:
        right = self._counts.diag().double()
        union = self._counts.sum(0) + self._counts.sum(1) - self._counts.diag()
        there = union > 0  # classes that neither are there nor were seen say nothing
        total = int(self._counts.sum())
        return {
            "miou": float(100 * (right[there] / union[there]).mean()) if total else 0.0,
            "pixel_accuracy": 100 * float(right.sum()) / total if total else 0.0,
        }


# --- a network on a set of photos -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DenseEvaluation:
    """Scores over a set of photos."""

    scores: Mapping[str, float]
    """Percent by name, as `hwnas.dense.evaluation` calls them."""
    images: int
    """How many were looked at."""
    seconds: float
    unreadable: tuple[tuple[str, str], ...]
    """(name, reason) of the images that were left out."""


@torch.inference_mode()
def evaluate(
    network: DenseNetwork,
    batches: DenseBatches,
    task: str,
    classes: int,
    *,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> DenseEvaluation:
    """The scores of `network` in eval mode; its mode is put back.

    Raises FileFormatError when not one image can be used.
    """
    was_training = network.training
    network.eval()
    start = clock()
    scores = scores_of(task, classes)
    images = 0
    unreadable: list[tuple[str, str]] = []
    for batch in batches.epoch(0):
        unreadable += batch.unreadable
        if not batch.images:
            continue
        predictions = network([image.to(device, non_blocking=True) for image in batch.images])
        for target, predicted in zip(batch.targets, predictions, strict=True):
            photo = batches.photos[int(target["number"])]
            scores.add(photo, {name: value.cpu() for name, value in predicted.items()})
        images += len(batch.images)
    network.train(was_training)
    if not images:
        raise FileFormatError(
            f"none of the {len(unreadable)} images can be used, '{unreadable[0][0]}' first: "
            f"{unreadable[0][1]}"
        )
    return DenseEvaluation(scores.percent(), images, clock() - start, tuple(unreadable))
