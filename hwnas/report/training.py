"""Everything that the report of a training says: its curves, what it confuses, samples of its answers.

A training is a folder of `hwnas train`, `train-many`, `dense train` or `supernet train`. What it predicts
is read from predictions.json, so the report can be written again without the images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hwnas.errors import UsageError
from hwnas.io import json as json_io
from hwnas.io import yaml as yaml_io
from hwnas.report.charts import Chart, confusion_chart, curves_chart
from hwnas.report.dimensions import number, percent
from hwnas.report.model import Table
from hwnas.report.predictions import Predictions, Sample
from hwnas.space import ArchSpec
from hwnas.space.outline import outline
from hwnas.train.history import read_history, scores_of

__all__ = ["Answer", "TrainingReport", "training_report"]

MOST_CLASSES = 40
"""Classes in the confusion matrix; of more, the pairs that are confused most often are listed."""
MOST_PAIRS = 30


@dataclass(frozen=True, slots=True)
class Answer:
    """One image of the evaluation split, and what the network takes it for."""

    name: str
    label: str
    predicted: str
    probability: float
    thumbnail: str
    """A JPEG file in base64; may be empty."""

    @property
    def is_right(self) -> bool:
        """Whether the predicted class is the image's."""
        return self.label == self.predicted


@dataclass(frozen=True)
class TrainingReport:
    """One training, in words, numbers and tables, as its report shows it."""

    title: str
    subtitle: str
    conclusion: tuple[str, ...]
    facts: Mapping[str, str]
    losses: tuple[float, ...]
    """Mean training loss of each epoch."""
    scores: Mapping[str, tuple[float, ...]]
    """Percent by score and epoch."""
    epochs: Table
    predictions: Predictions | None
    drawn: tuple[Answer, ...]
    mistakes: tuple[Answer, ...]
    classes: Table | None
    """Each class: how many of its images are right, and what the others are taken for."""
    pairs: Table | None
    """The pairs of classes that are confused most often."""
    settings: Mapping[str, str]

    @cached_property
    def charts(self) -> Mapping[str, Chart]:
        """Every chart of the page by name, in its order."""
        made = [
            curves_chart("loss", {"training loss": self.losses}, title="mean training loss"),
            curves_chart("accuracy", self.scores, title="%, on the evaluation images"),
        ]
        known = self.predictions
        if known is not None and len(known.classes) <= MOST_CLASSES:
            made.append(confusion_chart(known.classes, known.counts))
        return {chart.name: chart for chart in made}

    def charts_for_files(self) -> list[Chart]:
        """The charts of a paper."""
        return list(self.charts.values())


def training_report(folder: Path) -> TrainingReport:
    """The report of the training in `folder`, finished or not.

    Raises UsageError for a folder without a finished epoch, FileFormatError for damaged files.
    """
    history = read_history(folder)
    if not history:
        raise UsageError(f"{folder}: no training with a finished epoch: give the folder of a training")
    result = json_io.read(folder / "result.json") if (folder / "result.json").exists() else {}
    settings = _settings(folder)
    by_epoch = [scores_of(record) for record in history]
    scores = {_words(name): tuple(each[name] for each in by_epoch) for name in by_epoch[0]}
    known = Predictions.read(folder)
    return TrainingReport(
        title=result.get("name") or folder.name,
        subtitle=_subtitle(folder, result),
        conclusion=tuple(_conclusion(history, scores, settings, known, result.get("best_epoch"))),
        facts=_facts(history, scores, result),
        losses=tuple(record["loss"] for record in history),
        scores=scores,
        epochs=_epochs(history, scores),
        predictions=known,
        drawn=() if known is None else _answers(known, known.drawn),
        mistakes=() if known is None else _answers(known, known.mistakes),
        classes=None if known is None else _classes(known),
        pairs=None if known is None else _pairs(known),
        settings={name: str(value) for name, value in settings.items()},
    )


def _settings(folder: Path) -> dict[str, Any]:
    """The recipe of a classifier or a dense network, the settings of a supernet."""
    for name in ("recipe.yaml", "settings.yaml"):
        if (folder / name).exists():
            return dict(yaml_io.read(folder / name))
    return {}


def _subtitle(folder: Path, result: Mapping[str, Any]) -> str:
    design, network = folder / "arch.yaml", "a supernet"
    if design.exists():
        network = outline(ArchSpec.from_dict(yaml_io.read(design), source=str(design)))
    data = result.get("data", {})
    where = result.get("environment", {}).get("device", "")
    return ", ".join(
        filter(None, (network, f"data '{data['name']}'" if data else "", f"on {where}" if where else ""))
    )


def _conclusion(
    history: Sequence[Mapping[str, Any]],
    scores: Mapping[str, tuple[float, ...]],
    settings: Mapping[str, Any],
    known: Predictions | None,
    best_epoch: int | None,
) -> list[str]:
    leading, values = next(iter(scores.items()))
    epochs = [record["epoch"] for record in history]
    best = max(range(len(values)), key=values.__getitem__)
    if best_epoch in epochs:  # a dense network's is chosen by another score
        best = epochs.index(best_epoch)
    texts = [
        f"{leading} is {values[best]:.2f} % after epoch {epochs[best]}, the best epoch, and "
        f"{values[-1]:.2f} % after epoch {epochs[-1]}, the last one."
    ]
    if wanted := int(settings.get("epochs", 0)):
        if len(history) < wanted:
            texts.append(f"Not finished: {len(history)} of {wanted} epochs are done.")
        elif best == len(values) - 1 and len(values) > 1:
            texts.append("The last epoch is the best one: more epochs may raise the accuracy.")
        elif len(values) - best > max(3, wanted // 4):
            texts.append(f"The last {len(values) - 1 - best} epochs did not raise it.")
    if known is not None:
        right = sum(count for label, predicted, count in known.counts if label == predicted)
        share = right / known.images
        spread = 196 * math.sqrt(share * (1 - share) / known.images)
        texts.append(
            f"Of {known.images} {known.split} images, {right} are right: {100 * share:.2f} % "
            f"± {spread:.2g} points (95 % binomial interval), with the weights of epoch {known.epoch}. The "
            "epoch was chosen on these images, so the figure is slightly too high."
        )
        if wrong := _confusions(known):
            label, predicted, count = wrong[0]
            texts.append(
                f"Most frequent mistake: '{known.classes[label]}' taken for '{known.classes[predicted]}', "
                f"{count} {'image' if count == 1 else 'images'}."
            )
    return texts


def _facts(
    history: Sequence[Mapping[str, Any]], scores: Mapping[str, tuple[float, ...]], result: Mapping[str, Any]
) -> dict[str, str]:
    data = result.get("data", {})
    seconds = sum(record["seconds"] for record in history)
    facts = {f"best {name}": f"{max(values):.2f} %" for name, values in list(scores.items())[:2]}
    facts |= {"epochs": str(len(history)), "training time": f"{seconds / 60:.1f} min"}
    if data:
        facts |= {
            "training images": str(data["train_images"]),
            "evaluation images": str(data["evaluation_images"]),
        }
    if "params" in result:
        facts |= {
            "parameters": f"{number(result['params'] / 1e6)} M",
            "MACs": f"{number(result['macs'] / 1e6)} M",
        }
    return facts


def _epochs(history: Sequence[Mapping[str, Any]], scores: Mapping[str, tuple[float, ...]]) -> Table:
    rows = tuple(
        (
            str(record["epoch"]),
            f"{record['loss']:.4f}",
            *(f"{values[place]:.2f}" for values in scores.values()),
            f"{record['lr']:.2g}",
            f"{record['seconds']:.1f}",
        )
        for place, record in enumerate(history)
    )
    return Table(
        ("epoch", "training loss", *(f"{name} %" for name in scores), "learning rate", "seconds"),
        rows,
        left=(),
    )


def _confusions(known: Predictions) -> list[tuple[int, int, int]]:
    """(label, predicted, images) of each kind of mistake, the most frequent first."""
    return sorted((one for one in known.counts if one[0] != one[1]), key=lambda one: -one[2])


def _classes(known: Predictions) -> Table:
    rows = []
    for label, name in enumerate(known.classes):
        own = {predicted: count for one, predicted, count in known.counts if one == label}
        images, right = sum(own.values()), own.pop(label, 0)
        worst = max(own, key=own.__getitem__, default=None)
        taken = "" if worst is None else f"{known.classes[worst]} ({own[worst]})"
        rows.append((name, str(images), str(right), percent(right / images) if images else "", taken))
    return Table(("class", "images", "right", "share", "most often taken for"), tuple(rows), left=(0, 4))


def _pairs(known: Predictions) -> Table | None:
    rows = tuple(
        (known.classes[label], known.classes[predicted], str(count))
        for label, predicted, count in _confusions(known)[:MOST_PAIRS]
    )
    return Table(("class", "taken for", "images"), rows, left=(0, 1)) if rows else None


def _answers(known: Predictions, samples: Sequence[Sample]) -> tuple[Answer, ...]:
    return tuple(
        Answer(
            one.name, known.classes[one.label], known.classes[one.predicted], one.probability, one.thumbnail
        )
        for one in samples
    )


def _words(name: str) -> str:
    """`top1_percent` -> `top-1`."""
    return (
        name.replace("_percent", "")
        .replace("top", "top-", 1 if name.startswith("top") else 0)
        .replace("_", " ")
    )
