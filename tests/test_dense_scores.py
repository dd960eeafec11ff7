"""Scores: average precision is COCO's, intersection over union is scikit-learn's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("pycocotools")

import torch
from torch import Tensor

from hwnas.dense.coco import Photo, Thing
from hwnas.dense.data import semantic_map
from hwnas.dense.evaluation import LEADING, InstanceScores, PixelScores, scores_of


def thing(key: int, category: int, box: tuple[float, float, float, float], *, crowd: bool = False) -> Thing:
    left, top, right, bottom = box
    outline = ((left, top, right, top, right, bottom, left, bottom),)
    return Thing(key, category, box, (right - left) * (bottom - top), crowd, outline)


PHOTO = Photo(5, Path("a.png"), 60, 50, (thing(1, 0, (10, 10, 30, 30)), thing(2, 1, (35, 5, 55, 45))))


def seen(boxes: list[tuple[float, ...]], labels: list[int], scores: list[float]) -> dict[str, Tensor]:
    masks = torch.zeros(len(boxes), 1, 50, 60)
    for number, box in enumerate(boxes):
        left, top, right, bottom = (round(value) for value in box)
        masks[number, 0, top:bottom, left:right] = 0.9
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "scores": torch.tensor(scores),
        "masks": masks,
    }


def percent(photo: Photo, predicted: dict[str, Tensor]) -> dict[str, float]:
    scores = InstanceScores(2, ("bbox", "segm"))
    scores.add(photo, predicted)
    return scores.percent()


def test_what_is_found_exactly_scores_a_hundred(capsys: pytest.CaptureFixture[str]) -> None:
    truth = [one.box for one in PHOTO.things]
    assert percent(PHOTO, seen(truth, [1, 2], [0.9, 0.8])) == pytest.approx(
        {"box_ap": 100, "box_ap50": 100, "mask_ap": 100, "mask_ap50": 100}
    )
    assert capsys.readouterr().out == "", "the judge prints nothing"


def test_an_overlap_of_two_thirds_counts_up_to_two_thirds() -> None:
    moved = [(10, 14, 30, 34), (35, 13, 55, 53)]  # 16 of 24 rows in common, 32 of 48
    found = percent(PHOTO, seen(moved, [1, 2], [0.9, 0.8]))
    assert found["box_ap50"] == pytest.approx(100)
    assert found["box_ap"] == pytest.approx(40), "right at 0.5, 0.55, 0.6, 0.65 of ten overlaps"


def test_a_wrong_class_scores_nothing_and_half_of_the_classes_a_half() -> None:
    truth = [one.box for one in PHOTO.things]
    assert percent(PHOTO, seen(truth, [2, 1], [0.9, 0.8]))["box_ap"] == 0
    assert percent(PHOTO, seen(truth[:1], [1], [0.9]))["mask_ap"] == pytest.approx(50)


def test_no_prediction_scores_nothing() -> None:
    assert set(percent(PHOTO, seen([], [], [])).values()) == {0.0}


def test_a_crowd_is_neither_right_nor_wrong() -> None:
    crowd = thing(3, 0, (40, 10, 58, 40), crowd=True)
    photo = dataclasses.replace(PHOTO, things=(PHOTO.things[0], crowd))
    into_the_crowd = [PHOTO.things[0].box, (42, 12, 56, 30), (41, 20, 57, 39)]
    found = percent(photo, seen(into_the_crowd, [1, 1, 1], [0.5, 0.9, 0.8]))
    assert found["box_ap50"] == pytest.approx(100)


def test_mean_intersection_over_union_is_scikit_learns() -> None:
    from sklearn.metrics import accuracy_score, jaccard_score

    generator = torch.Generator().manual_seed(0)
    truth = semantic_map(PHOTO)
    scores = PixelScores(2)
    maps = [torch.randint(0, 3, truth.shape, generator=generator) for _ in range(2)]
    maps.append(truth.clone())
    for one in maps:
        scores.add(PHOTO, {"map": one})
    expected, predicted = truth.flatten().repeat(3), torch.stack(maps).flatten()
    found = scores.percent()
    assert found["miou"] == pytest.approx(100 * jaccard_score(expected, predicted, average="macro"))
    assert found["pixel_accuracy"] == pytest.approx(100 * accuracy_score(expected, predicted))


def test_a_class_that_is_nowhere_says_nothing_and_ignored_pixels_neither() -> None:
    many = dataclasses.replace(PHOTO.things[1], crowd=True)
    crowd = dataclasses.replace(PHOTO, things=(PHOTO.things[0], many))
    scores = PixelScores(2)
    seen_map = semantic_map(dataclasses.replace(PHOTO, things=PHOTO.things[:1]))
    scores.add(crowd, {"map": seen_map})
    assert scores.percent() == {"miou": 100.0, "pixel_accuracy": 100.0}


@pytest.mark.parametrize("task", LEADING)
def test_the_leading_score_is_one_of_the_tasks(task: str) -> None:
    scores = scores_of(task, 2)
    truth = {**seen([one.box for one in PHOTO.things], [1, 2], [0.9, 0.8]), "map": semantic_map(PHOTO)}
    scores.add(PHOTO, truth)
    assert scores.percent()[LEADING[task]] == pytest.approx(100)
