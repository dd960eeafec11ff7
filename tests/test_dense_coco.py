"""COCO-format data: what is wrong with it is named in one line or left out, the rest is learnt."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torchvision")
pytest.importorskip("pycocotools")

import dataclasses

import numpy as np
import torch
from dense_samples import RECIPE, changed, circle, shapes, write_set
from PIL import Image

from hwnas.dense.coco import Photo, Thing, open_coco, some_of
from hwnas.dense.data import IGNORED, DenseBatches, encoded, filled, semantic_map
from hwnas.errors import FileFormatError, UsageError

BOX_FILE = "train/annotations.json"


def first_with_things(photos: tuple[Photo, ...]) -> Photo:
    return next(photo for photo in photos if photo.things)


def test_what_the_files_say_is_what_is_read(tmp_path: Path) -> None:
    found = open_coco(shapes(tmp_path, train=8, val=4), outlines=True)
    assert found.classes == ("circle", "square")
    assert (len(found.train), len(found.evaluation)) == (8, 4)
    document = json.loads((tmp_path / BOX_FILE).read_text())
    photo = first_with_things(found.train)
    wanted = [one for one in document["annotations"] if one["image_id"] == photo.id]
    for thing, annotation in zip(photo.things, wanted, strict=True):
        left, top, wide, high = annotation["bbox"]
        assert thing.box == (left, top, left + wide, top + high)
        assert thing.category == annotation["category_id"] - 1
        assert thing.area == annotation["area"]
    assert photo.name == f"train/images/{photo.id:04}.png"
    assert found.train[7].things == (), "an image that shows nothing is an example, too"
    assert found.left_out == ()


def test_one_set_is_parted_and_cocos_own_folders_are_known(tmp_path: Path) -> None:
    one = tmp_path / "one"
    write_set(one / "annotations.json", one / "images", 11, random.Random(1))
    found = open_coco(one, outlines=False)
    assert (len(found.train), len(found.evaluation)) == (9, 2)
    assert not {photo.id for photo in found.train} & {photo.id for photo in found.evaluation}
    assert open_coco(one, outlines=False) == found, "the same each time"

    own = tmp_path / "coco"
    for split, count in (("train2017", 4), ("val2017", 3)):
        file = own / "annotations" / f"instances_{split}.json"
        write_set(file, own / split, count, random.Random(2))
    found = open_coco(own, outlines=False)
    assert (len(found.train), len(found.evaluation)) == (4, 3)


def test_categories_are_told_by_their_names(tmp_path: Path) -> None:
    root = shapes(tmp_path, train=6, val=6)

    def renumbered(document: dict[str, Any]) -> None:
        for category in document["categories"]:
            category["id"] = {1: 90, 2: 7}[category["id"]]
        for one in document["annotations"]:
            one["category_id"] = {1: 90, 2: 7}[one["category_id"]]

    before = open_coco(root, outlines=False)
    changed(root / "val/annotations.json", renumbered)
    assert open_coco(root, outlines=False).evaluation == before.evaluation


Change = Callable[[dict[str, Any]], None]


def on_first(**fields: Any) -> Change:
    return lambda document: document["annotations"][0].update(fields)


def test_what_cannot_be_seen_is_left_out_and_counted(tmp_path: Path) -> None:
    root = shapes(tmp_path)

    def change(document: dict[str, Any]) -> None:
        boxes = [[500, 10, 20, 20], [10, 10, 0, 12], [-30, 5, 20, 20], [-10, -10, 30, 30]]
        for annotation, box in zip(document["annotations"], boxes, strict=False):
            annotation["bbox"] = box
        document["annotations"][4]["segmentation"] = [[1, 2, 3, 4]]
        document["annotations"][5]["segmentation"] = []

    changed(root / BOX_FILE, change)
    found = open_coco(root, outlines=True)
    reasons = [(name.split(" in ")[0], reason) for name, reason in found.left_out]
    assert reasons == [
        ("annotation 1", "its box lies outside the image"),
        ("annotation 2", "its box has no area"),
        ("annotation 3", "its box lies outside the image"),
        ("annotation 5", "it has no outline"),
        ("annotation 6", "it has no outline"),
    ]
    cut = next(thing for photo in found.train for thing in photo.things if thing.id == 4)
    assert cut.box == (0, 0, 20, 20), "what sticks out is cut off"
    boxes_alone = open_coco(root, outlines=False)
    assert len(boxes_alone.left_out) == 3, "boxes need no outline"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (on_first(category_id=9), "annotation 1: category_id must be a category of this file, got 9"),
        (on_first(image_id=999), "annotation 1: image_id must be an image of this file, got 999"),
        (on_first(image_id=[1]), r"annotation 1: image_id must be an image of this file, got \[1\]"),
        (on_first(bbox=[1, 2, 3]), "annotation 1: bbox must be .left, top, width, height., got"),
        (on_first(bbox=[1, 2, float("nan"), 3]), "numbers must be finite, got NaN"),
        (on_first(bbox="1 2 3 4"), "annotation 1: bbox must be"),
        (on_first(id=2), "'annotations': each must have a whole number of its own as id, got 2"),
        (on_first(segmentation={"size": [3, 3], "counts": [9]}), "the mask must be of the image's size"),
        (lambda d: d["images"][0].update(file_name="gone.png"), "missing are gone.png"),
        (lambda d: d["images"][0].update(file_name="../../secret"), "must be a file within"),
        (lambda d: d["images"][0].update(file_name="/etc/passwd"), "must be a file within"),
        (lambda d: d["images"][0].update(width=0), "image 1: width must be from 1 to 65535, got 0"),
        (lambda d: d["images"][0].pop("height"), "image 1: height must be from 1 to 65535, got None"),
        (lambda d: d["categories"][0].update(name="square"), "must have a name of its own, got 'square'"),
        (lambda d: d.pop("categories"), "'categories' must be a list with an entry, got NoneType"),
        (lambda d: d.update(images=[]), "'images' must be a list with an entry"),
        (lambda d: d["annotations"].append("x"), "'annotations': each must have a whole number"),
    ],
)
def test_what_is_wrong_with_a_file_is_named_in_one_line(
    tmp_path: Path, change: Change, complaint: str
) -> None:
    root = shapes(tmp_path, train=6, val=4)
    changed(root / BOX_FILE, change)
    with pytest.raises(FileFormatError, match=complaint) as caught:
        open_coco(root, outlines=False)
    assert "\n" not in str(caught.value)
    assert str(root / BOX_FILE) in str(caught.value)


@pytest.mark.parametrize(
    "counts", ["", "\x00", "zzz", "0" * 500, "é", "abc1", [1, 2], [-1, 4097], None, "l" * 30]
)
def test_runs_that_do_not_fill_the_image_are_refused(tmp_path: Path, counts: Any) -> None:
    root = shapes(tmp_path, train=6, val=4)

    def change(document: dict[str, Any]) -> None:
        annotation = document["annotations"][0]
        image = next(image for image in document["images"] if image["id"] == annotation["image_id"])
        annotation["segmentation"] = {"size": [image["height"], image["width"]], "counts": counts}

    changed(root / BOX_FILE, change)
    with pytest.raises(
        FileFormatError, match="annotation 1: the mask's counts must be runs that fill the image"
    ):
        open_coco(root, outlines=True)


@pytest.mark.parametrize("seed", range(5))
def test_compressed_runs_are_read_as_coco_reads_them(tmp_path: Path, seed: int) -> None:
    root = shapes(tmp_path, train=6, val=4, seed=seed)
    rng = np.random.default_rng(seed)
    masks = {}

    def change(document: dict[str, Any]) -> None:
        for annotation in document["annotations"]:
            image = next(image for image in document["images"] if image["id"] == annotation["image_id"])
            mask = rng.random((image["height"], image["width"])) < rng.choice([0.02, 0.5, 0.99])
            masks[annotation["id"]] = mask
            annotation["segmentation"] = encoded(mask)

    changed(root / BOX_FILE, change)
    for photo in open_coco(root, outlines=True).train:
        for thing in photo.things:
            assert thing.outline is not None
            seen = filled(thing.outline, height=photo.height, width=photo.width)
            assert np.array_equal(seen.astype(bool), masks[thing.id])


def test_a_file_that_is_no_json_and_folders_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such data folder: .*expected are DATA/train/annotations.json"):
        open_coco(tmp_path / "nowhere", outlines=False)
    with pytest.raises(UsageError, match="no annotations there; expected are"):
        open_coco(tmp_path, outlines=False)
    root = shapes(tmp_path / "data", train=4, val=2)
    content = (root / BOX_FILE).read_bytes()
    for broken in (b"", content[:-40], b"[1, 2]", b"[" * 100_000):
        (root / BOX_FILE).write_bytes(broken)
        with pytest.raises(FileFormatError, match=r"not a whole JSON file|must be a mapping, got list"):
            open_coco(root, outlines=False)
    (root / BOX_FILE).write_bytes(content)
    (root / "train" / "images").rename(root / "train" / "pictures")
    with pytest.raises(FileFormatError, match="there is no such folder"):
        open_coco(root, outlines=False)


def test_nothing_to_learn_or_to_judge_by_is_refused(tmp_path: Path) -> None:
    root = shapes(tmp_path / "data", train=4, val=2)
    changed(root / BOX_FILE, lambda document: document.update(annotations=[]))
    with pytest.raises(UsageError, match="there must be an object to learn from, got none"):
        open_coco(root, outlines=False)
    one = tmp_path / "one"
    write_set(one / "annotations.json", one / "images", 1, random.Random(1))
    with pytest.raises(UsageError, match="there must be images to evaluate on, got 1 image in all"):
        open_coco(one, outlines=False)


def test_a_category_of_the_evaluation_alone_is_refused(tmp_path: Path) -> None:
    root = shapes(tmp_path, train=4, val=4)
    changed(root / "val/annotations.json", lambda d: d["categories"].append({"id": 3, "name": "star"}))
    with pytest.raises(
        FileFormatError, match="every category must be one of .*train.annotations.json, got 'star'"
    ):
        open_coco(root, outlines=False)


def test_a_limit_draws_the_same_images_each_time(tmp_path: Path) -> None:
    data = open_coco(shapes(tmp_path), outlines=False)
    few = some_of(data, 10, seed=1)
    assert len(few.train) == 10 and few.evaluation == data.evaluation
    assert few == some_of(data, 10, seed=1) != some_of(data, 10, seed=2)
    with pytest.raises(UsageError, match="at least 2 images, got 1"):
        some_of(data, 1, seed=1)


def test_every_form_of_outline_fills_the_same_pixels() -> None:
    mask = np.zeros((9, 12), dtype=np.uint8)
    mask[2:6, 3:8] = 1
    runs = encoded(mask)
    polygon = ((3.0, 2.0, 8.0, 2.0, 8.0, 6.0, 3.0, 6.0),)
    columns = mask.T.reshape(-1)  # COCO's plain runs go down the columns, zeros first
    edges = np.flatnonzero(np.diff(columns)) + 1
    plain = {"size": [9, 12], "counts": np.diff([0, *edges.tolist(), columns.size]).tolist()}
    for outline in (runs, polygon, plain):
        assert np.array_equal(filled(outline, height=9, width=12), mask)  # type: ignore[arg-type]
    two = (*polygon, (9.0, 7.0, 11.0, 7.0, 11.0, 8.0, 9.0, 8.0))
    assert filled(two, height=9, width=12).sum() == 20 + 2, "several polygons are one object"


def test_a_circles_polygon_has_its_area() -> None:
    area = filled((tuple(circle(20, 20, 12)),), height=40, width=40).sum()
    assert area == pytest.approx(np.pi * 12**2, rel=0.03)


def test_the_smaller_object_is_seen_and_a_crowd_is_ignored() -> None:
    def square(key: int, category: int, side: float, crowd: bool = False) -> Thing:
        outline = ((0.0, 0.0, side, 0.0, side, side, 0.0, side),)
        return Thing(key, category, (0, 0, side, side), side**2, crowd, outline)

    photo = Photo(1, Path("x.png"), 10, 10, (square(1, 0, 2), square(2, 1, 6), square(3, 0, 8, crowd=True)))
    found = semantic_map(photo)
    assert found[1, 1] == 1
    assert found[5, 5] == 2
    assert found[7, 7] == IGNORED
    assert found[9, 9] == 0


def batches(root: Path, task: str, *, workers: int = 0, **changes: Any) -> DenseBatches:
    recipe = dataclasses.replace(RECIPE, **changes)
    photos = open_coco(root, outlines=True).train
    return DenseBatches(photos, task, recipe, training=True, workers=workers)


@pytest.mark.parametrize("task", ["instance", "segment"])
def test_a_mirrored_image_has_mirrored_targets(tmp_path: Path, task: str) -> None:
    root = shapes(tmp_path, train=8, val=2)
    plain = next(batches(root, task, horizontal_flip=0.0).epoch(1))
    mirrored = next(batches(root, task, horizontal_flip=1.0).epoch(1))
    for before, after, target, other in zip(
        plain.images, mirrored.images, plain.targets, mirrored.targets, strict=True
    ):
        assert torch.equal(before.flip(-1), after)
        assert target["number"] == other["number"]
        if task == "segment":
            assert torch.equal(target["map"].flip(-1), other["map"])
            continue
        assert torch.equal(target["masks"].flip(-1), other["masks"])
        for mask, box in zip(other["masks"], other["boxes"], strict=True):
            columns = mask.any(0).nonzero().flatten()
            assert abs(float(box[0]) - int(columns[0])) <= 1
            assert abs(float(box[2]) - int(columns[-1]) - 1) <= 1


def test_batches_are_the_same_in_any_number_of_processes(tmp_path: Path) -> None:
    root = shapes(tmp_path, train=16, val=2)
    alone = [image for batch in batches(root, "detect").epoch(3) for image in batch.images]
    together = [image for batch in batches(root, "detect", workers=2).epoch(3) for image in batch.images]
    assert len(alone) == 16
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))
    other_epoch = next(batches(root, "detect").epoch(4)).images
    assert not all(torch.equal(one, two) for one, two in zip(alone, other_epoch, strict=False))


def test_images_that_cannot_be_used_are_named_and_left_out(tmp_path: Path) -> None:
    root = shapes(tmp_path, train=8, val=2)
    folder = root / "train" / "images"
    (folder / "0001.png").write_bytes(b"not a picture")
    (folder / "0002.png").write_bytes((folder / "0002.png").read_bytes()[:60])
    Image.new("RGB", (10, 11)).save(folder / "0003.png")
    document = json.loads((root / BOX_FILE).read_text())
    size = f"{document['images'][2]['width']} x {document['images'][2]['height']}"
    (batch,) = batches(root, "instance").epoch(1)
    assert len(batch.images) == 5
    reasons = dict(batch.unreadable)
    assert reasons["train/images/0001.png"] == "not an image"
    assert "train/images/0002.png" in reasons
    assert reasons["train/images/0003.png"] == f"is 10 x 11 pixels, its annotations are for {size}"
