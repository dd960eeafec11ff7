"""Shards of a data set: web datasets and tars of class folders, read at any place, refused by name."""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path

import pytest

pytest.importorskip("timm")

from PIL import Image
from train_samples import COLOURS, RECIPE, encoded, square_jpeg, squares

from hwnas.data.images import Images
from hwnas.data.loader import evaluation_batches
from hwnas.data.sources import open_images
from hwnas.errors import FileFormatError, UsageError


def shard(path: Path, files: dict[str, bytes]) -> Path:
    """A tar of these files, in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def web_dataset(root: Path, *, numbers: bool = True, per_shard: int = 6, shards: int = 2) -> Path:
    """root/train-0000.tar, ... and root/val-0000.tar: KEY.jpg, KEY.cls and, unread, KEY.json."""
    rng = random.Random(5)
    names = sorted(COLOURS)
    for split, count in (("train", shards), ("val", 1)):
        for number in range(count):
            files: dict[str, bytes] = {}
            for sample in range(per_shard):
                label = sample % len(names)
                key = f"{number:02}{sample:04}"
                files[f"{key}.jpg"] = square_jpeg(COLOURS[names[label]], rng)
                files[f"{key}.json"] = b"{}"
                files[f"{key}.cls"] = (str(label) if numbers else names[label]).encode() + b"\n"
            shard(root / f"{split}-{number:04}.tar", files)
    return root


def mean_colour(images: Images, class_name: str) -> tuple[int, ...]:
    """Of the middle of the first training image of a class, as it is decoded."""
    image = next(image for image in images.split("train") if image.class_name == class_name)
    with Image.open(io.BytesIO(images.read(image))) as picture:
        best = max(picture.convert("RGB").getcolors(10**6), key=lambda found: max(found[1]) - min(found[1]))
    return best[1]  # type: ignore[return-value]


@pytest.mark.parametrize("numbers", [True, False])
def test_a_web_dataset_is_read_sample_by_sample(tmp_path: Path, numbers: bool) -> None:
    images = open_images(web_dataset(tmp_path, numbers=numbers))
    assert images.classes() == (("0", "1", "2") if numbers else ("blue", "green", "red"))
    assert (len(images.split("train")), images.evaluation_split()) == (12, "val")
    assert images.images[0].name == f"train/{images.classes()[0]}/train-0000/000000.jpg"
    for place, name in enumerate(sorted(COLOURS)):
        strongest = COLOURS[name].index(max(COLOURS[name]))
        seen = mean_colour(images, images.classes()[place])
        assert seen.index(max(seen)) == strongest, "the label is that of its own image"


def test_numbers_sort_as_numbers_and_may_be_named(tmp_path: Path) -> None:
    for split in ("train", "val"):
        files = {}
        for label in range(11):
            files[f"{label}.jpg"] = square_jpeg(COLOURS["red"], random.Random(label))
            files[f"{label}.cls"] = b"%d" % label
        shard(tmp_path / split / "0.tar", files)
    assert open_images(tmp_path).classes() == tuple(f"{label:02}" for label in range(11))
    (tmp_path / "classnames.txt").write_text("\n".join(f"kind {label:02}" for label in range(11)))
    assert open_images(tmp_path).classes()[10] == "kind 10"
    (tmp_path / "classnames.txt").write_text("only\ntwo\n")
    with pytest.raises(UsageError, match="a line for each class from 0 to 10, got 2 lines"):
        open_images(tmp_path)


def test_a_tar_of_class_folders_for_each_split_holds_what_the_folder_holds(tmp_path: Path) -> None:
    folder = squares(tmp_path / "data", train=3, test=2)
    for split in ("train", "test"):
        with tarfile.open(tmp_path / f"squares-{split}.tar", "w") as archive:
            archive.add(folder / split, arcname=".")
    plain, shards = open_images(folder), open_images(tmp_path)
    assert shards.classes() == plain.classes()
    assert sorted(shards.read(image) for image in shards.images) == sorted(
        plain.read(image) for image in plain.images
    )


def test_archives_beside_the_folders_that_they_were_unpacked_to_are_left_alone(tmp_path: Path) -> None:
    folder = squares(tmp_path, train=3, test=2)
    before = open_images(folder)
    (tmp_path / "ILSVRC2012_img_train.tar").write_bytes(b"the archive as it came")
    assert open_images(folder) == before


def test_a_training_sees_the_same_from_shards_as_from_a_folder(tmp_path: Path) -> None:
    import torch

    shards = open_images(web_dataset(tmp_path / "shards", numbers=False))
    for image in shards.images:
        file = tmp_path / "folder" / image.name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(shards.read(image))
    folder = open_images(tmp_path / "folder")
    one, other = (
        next(
            evaluation_batches(
                images,
                images.split("val"),
                images.classes(),
                RECIPE.augmentation,
                batch_size=RECIPE.batch_size,
                seed=RECIPE.seed,
                size=16,
                workers=workers,
            ).epoch(0)
        )
        for images, workers in ((shards, 2), (folder, 0))
    )
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.labels, other.labels)


KINDS = ("CMYK", "P", "I;16", "LA", "1-pixel", "damaged", "empty")


def test_odd_pictures_are_converted_and_damaged_ones_named_by_their_member(tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    for number, kind in enumerate(KINDS):
        if kind == "damaged":
            content = square_jpeg(COLOURS["red"], random.Random(1), side=64)[:300]
        elif kind == "empty":
            content = b""
        elif kind == "I;16":
            content = encoded(Image.new("I;16", (9, 9), 51400), "PNG")
        elif kind == "1-pixel":
            content = encoded(Image.new("RGB", (1, 1)), "PNG")
        else:
            picture = Image.new("RGB", (9, 9), (200, 200, 200)).convert(kind)
            content = encoded(picture, "JPEG" if kind == "CMYK" else "PNG")
        ending = "jpg" if kind in ("CMYK", "damaged") else "png"
        files |= {f"{number:03}.{ending}": content, f"{number:03}.cls": b"0"}
    files |= {"100.jpg": square_jpeg(COLOURS["red"], random.Random(2)), "100.cls": b"1"}
    shard(tmp_path / "train.tar", files)
    shard(tmp_path / "val.tar", files)
    images = open_images(tmp_path)
    assert [name for name, _ in images.left_out] == ["train/0/train/006.png", "val/0/val/006.png"]
    (batch,) = evaluation_batches(
        images,
        images.split("val"),
        images.classes(),
        RECIPE.augmentation,
        batch_size=RECIPE.batch_size,
        seed=RECIPE.seed,
        size=16,
        workers=0,
    ).epoch(0)
    assert batch.labels.tolist() == [0] * 5 + [1]
    ((name, reason),) = batch.unreadable
    assert name == "val/0/val/005.jpg" and reason


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"a.jpg": b"x", "b.jpg": b"x", "b.cls": b"0"}, "must have its class.*got 'a.jpg' without"),
        ({"a.jpg": b"x"}, "every image must have its class.*got 'a.jpg' without"),
        ({"a.jpg": b"x", "a.cls": b""}, "a class must be a number or a name, got b'' in a.cls"),
        ({"a.jpg": b"x", "a.cls": b"\xff\xfe"}, "a class must be a number or a name"),
        ({"a.jpg": b"x", "a.cls": b"../up"}, "a class must be a number or a name"),
    ],
)
def test_what_is_wrong_with_a_shard_is_named(tmp_path: Path, files: dict[str, bytes], complaint: str) -> None:
    web_dataset(tmp_path)
    shard(tmp_path / "train-0001.tar", files)
    with pytest.raises(FileFormatError, match=complaint) as caught:
        open_images(tmp_path)
    assert "train-0001.tar" in str(caught.value)


def test_a_cut_off_shard_is_named(tmp_path: Path) -> None:
    root = web_dataset(tmp_path)
    content = (root / "train-0001.tar").read_bytes()
    for length in (0, 100, 512 * 3 + 7, len(content) // 2):
        (root / "train-0001.tar").write_bytes(content[:length])
        with pytest.raises(FileFormatError, match=r"train-0001\.tar: not a whole tar archive"):
            open_images(root)
