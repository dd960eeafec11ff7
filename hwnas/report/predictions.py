"""What a trained classifier takes the evaluation images for: confusion counts, and samples with thumbnails.

predictions.json in a training's folder: the report of the training is drawn from it, without the images.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas.errors import FileFormatError
from hwnas.io import json as json_io
from hwnas.io.atomic import write_atomically

if TYPE_CHECKING:
    import torch

    from hwnas.data.images import Image, Images
    from hwnas.train.checkpoint import Checkpoint

__all__ = ["FILE", "Predictions", "Sample", "predictions"]

FILE = "predictions.json"
FORMAT = 1  # 1: the first one
SAMPLES = 12
"""Random samples, and as many of the mistakes that the network was surest of."""
THUMBNAIL_PX = 64


@dataclass(frozen=True, slots=True)
class Sample:
    """One evaluation image."""

    name: str
    label: int
    """Number of its class."""
    predicted: int
    """Number of the class with the highest logit."""
    probability: float
    """Softmax probability of that class."""
    thumbnail: str = ""
    """A JPEG file in base64, at most 64 pixels wide and high; empty when the image cannot be read again."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """A classifier's answers on the evaluation images."""

    split: str
    epoch: int
    """Epoch of the weights."""
    classes: tuple[str, ...]
    counts: tuple[tuple[int, int, int], ...]
    """(label, predicted, images) for each pair that occurs, in order."""
    drawn: tuple[Sample, ...]
    """Samples drawn at random by the recipe's seed."""
    mistakes: tuple[Sample, ...]
    """Wrong answers, highest probability first."""

    @property
    def images(self) -> int:
        """How many were classified."""
        return sum(count for *_, count in self.counts)

    def write(self, folder: Path) -> None:
        """Writes predictions.json; raises HwnasError when the folder cannot be written."""
        write_atomically(folder / FILE, json.dumps({"format": FORMAT, **dataclasses.asdict(self)}) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Predictions | None:
        """What `write` wrote, None when there is no file; raises FileFormatError for a damaged one."""
        file = folder / FILE
        if not file.exists():
            return None
        found = json_io.read(file)
        try:
            if found.pop("format") != FORMAT:
                raise FileFormatError(f"{file}: written by another version of hwnas: add --data DATA")
            samples: dict[str, Any] = {
                name: tuple(Sample(**one) for one in found.pop(name)) for name in ("drawn", "mistakes")
            }
            counts = tuple((int(a), int(b), int(n)) for a, b, n in found.pop("counts"))
            return cls(counts=counts, classes=tuple(found.pop("classes")), **samples, **found)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FileFormatError(f"{file}: damaged: {type(error).__name__}: {error}") from None


def predictions(checkpoint: Checkpoint, images: Images, *, device: str = "cpu") -> Predictions:
    """The answers of a trained network on the val (else test) images.

    Raises UsageError for images of classes that the network does not know, FileFormatError when no image
    can be decoded.
    """
    from hwnas.data.images import printable
    from hwnas.train.evaluation import evaluate_checkpoint

    answers: list[tuple[int, int, float]] = []

    def collect(logits: torch.Tensor, labels: torch.Tensor) -> None:
        probability, predicted = logits.softmax(dim=1).max(dim=1)
        answers.extend(zip(labels.tolist(), predicted.tolist(), probability.tolist(), strict=True))

    split = images.evaluation_split()
    found = evaluate_checkpoint(checkpoint, images, device=device, each=collect)
    unreadable = {name for name, _ in found.unreadable}
    readable = [image for image in images.split(split) if image.name not in unreadable]
    samples = [
        Sample(printable(image.name), label, predicted, round(probability, 4))
        for image, (label, predicted, probability) in zip(readable, answers, strict=True)
    ]
    places = range(len(samples))
    wrong = [place for place in places if samples[place].label != samples[place].predicted]
    surest = sorted(wrong, key=lambda place: -samples[place].probability)[:SAMPLES]
    drawn = sorted(random.Random(checkpoint.recipe.seed).sample(places, min(SAMPLES, len(samples))))

    def with_thumbnails(chosen: Sequence[int]) -> tuple[Sample, ...]:
        return tuple(
            dataclasses.replace(samples[place], thumbnail=_thumbnail(images, readable[place]))
            for place in chosen
        )

    counts = Counter((one.label, one.predicted) for one in samples)
    return Predictions(
        split=split,
        epoch=checkpoint.epoch,
        classes=checkpoint.classes_names,
        counts=tuple((*pair, counts[pair]) for pair in sorted(counts)),
        drawn=with_thumbnails(drawn),
        mistakes=with_thumbnails(surest),
    )


def _thumbnail(images: Images, image: Image) -> str:
    from hwnas.data.decoding import UnreadableImageError, decode

    try:
        picture = decode(images.read(image))
    except (UnreadableImageError, OSError):
        return ""
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode()
