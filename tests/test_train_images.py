"""Folders and archives of images: found, named when wrong, never a crash."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest

pytest.importorskip("timm")

import torch
from PIL import Image
from train_samples import COLOURS, RECIPE, encoded, packed, square_jpeg, squares

from hwnas.data.images import subset
from hwnas.data.loader import UnreadableImageError, decode, evaluation_batches, training_batches
from hwnas.data.sources import open_images
from hwnas.errors import FileFormatError, UsageError


def test_classes_are_the_train_folders_by_name(tmp_path: Path) -> None:
    images = open_images(squares(tmp_path / "data"))
    assert images.classes() == ("blue", "green", "red")
    assert len(images.split("train")) == 36
    assert images.evaluation_split() == "test"
    assert images.left_out == ()


@pytest.mark.parametrize(
    ("suffix", "mode"), [(".tar", "w"), (".tar.gz", "w:gz"), (".tar.bz2", "w:bz2"), (".tar.xz", "w:xz")]
)
def test_an_archive_holds_what_its_folder_holds(tmp_path: Path, suffix: str, mode: str) -> None:
    folder = open_images(squares(tmp_path / "data", train=3, test=2))
    archive = open_images(packed(tmp_path / "data", tmp_path / f"data{suffix}", mode))
    assert [image.name for image in archive.images] == [image.name for image in folder.images]
    assert archive.classes() == folder.classes()
    for one, other in zip(archive.images, folder.images, strict=True):
        assert archive.read(one) == folder.read(other)


def test_a_limit_keeps_equally_many_of_each_class_and_always_the_same(tmp_path: Path) -> None:
    images = open_images(squares(tmp_path / "data"))
    kept = subset(images.split("train"), 10, seed=3)
    by_class = [sum(image.class_name == name for image in kept) for name in COLOURS]
    assert by_class == [4, 3, 3]
    assert kept == subset(images.split("train"), 10, seed=3)
    assert kept != subset(images.split("train"), 10, seed=4)
    with pytest.raises(UsageError, match="each of the 3 classes an image, got 2"):
        subset(images.split("train"), 2, seed=3)


def test_a_missing_folder_is_answered_with_the_layout(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such data folder or archive: .*train/CLASS"):
        open_images(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="there are no images"):
        open_images(tmp_path)


def test_one_class_and_empty_class_folders_are_named(tmp_path: Path) -> None:
    """Fault 46: one class, an empty folder."""
    root = squares(tmp_path / "data")
    (root / "train" / "violet").mkdir()
    with pytest.raises(UsageError, match="got none in 'train/violet'"):
        open_images(root)
    (root / "train" / "violet").rmdir()
    lonely = tmp_path / "lonely"
    for split in ("train", "val"):
        (lonely / split / "red").mkdir(parents=True)
        (lonely / split / "red" / "1.jpg").write_bytes(square_jpeg(COLOURS["red"], random.Random(0)))
    with pytest.raises(UsageError, match=r"at least 2 classes .*got 1: 'red' with 1 images"):
        open_images(lonely).classes()


def test_a_class_that_is_only_tested_is_named(tmp_path: Path) -> None:
    root = squares(tmp_path / "data")
    (root / "test" / "violet").mkdir()
    (root / "test" / "violet" / "1.jpg").write_bytes(square_jpeg((150, 30, 200), random.Random(0)))
    with pytest.raises(UsageError, match="unknown classes in 'test': 'violet' is not among 'blue'"):
        open_images(root).classes()


def test_a_set_without_evaluation_images_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "trainonly"
    for name, colour in COLOURS.items():
        (root / "train" / name).mkdir(parents=True)
        (root / "train" / name / "1.jpg").write_bytes(square_jpeg(colour, random.Random(0)))
    with pytest.raises(UsageError, match="neither in val nor in test"):
        open_images(root).evaluation_split()


@pytest.mark.parametrize(("suffix", "mode"), [(".tar", "w"), (".tar.gz", "w:gz"), (".tar.xz", "w:xz")])
def test_a_cut_off_archive_is_refused(tmp_path: Path, suffix: str, mode: str) -> None:
    archive = packed(squares(tmp_path / "data", train=6), tmp_path / f"data{suffix}", mode)
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(FileFormatError, match="not a whole tar archive"):
        open_images(archive)
    archive.write_bytes(b"something else entirely" * 100)
    with pytest.raises(FileFormatError, match="not a whole tar archive"):
        open_images(archive)


@pytest.mark.parametrize("kind", ["CMYK", "L", "P", "RGBA", "LA", "1", "I;16", "1-pixel"])
def test_any_kind_of_picture_becomes_rgb(kind: str) -> None:
    """Fault 46: CMYK, palette, 16 bits, one pixel."""
    if kind == "1-pixel":
        content = encoded(Image.new("RGB", (1, 1), (200, 30, 30)), "PNG")
    elif kind == "I;16":
        content = encoded(Image.new("I;16", (6, 6), 51400), "PNG")
    else:
        picture = Image.new("RGB", (6, 6), (200, 200, 200)).convert(kind)
        content = encoded(picture, "JPEG" if kind == "CMYK" else "PNG")
    picture = decode(content)
    assert picture.mode == "RGB"
    if kind not in ("1", "1-pixel"):
        assert all(abs(channel - 200) <= 4 for channel in picture.getpixel((2, 2))), picture.getpixel((2, 2))


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\xff\xd8\xff\xe0" + b"\0" * 40])
def test_what_is_no_picture_gives_a_reason(content: bytes) -> None:
    with pytest.raises(UnreadableImageError, match=r"\w"):
        decode(content)


def test_a_cut_off_jpeg_gives_a_reason() -> None:
    content = square_jpeg(COLOURS["red"], random.Random(0), side=64)
    with pytest.raises(UnreadableImageError, match=r"(?i)truncated"):
        decode(content[: len(content) // 2])


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_left_out_and_named(tmp_path: Path, workers: int) -> None:
    """Fault 46: corrupt and empty files."""
    root = squares(tmp_path / "data", train=4, test=4)
    (root / "test" / "red" / "001.jpg").write_bytes(b"not a picture")
    (root / "test" / "red" / "002.jpg").write_bytes(b"")
    one_pixel = io.BytesIO()
    Image.new("RGB", (1, 1)).save(one_pixel, "JPEG")
    (root / "test" / "red" / "003.jpg").write_bytes(one_pixel.getvalue())
    images = open_images(root)
    assert images.left_out == (("test/red/002.jpg", "0 bytes"),)
    batches = evaluation_batches(
        images,
        images.split("test"),
        images.classes(),
        RECIPE.augmentation,
        batch_size=RECIPE.batch_size,
        seed=RECIPE.seed,
        size=16,
        workers=workers,
    )
    (batch,) = batches.epoch(0)
    assert batch.images.shape == (10, 3, 16, 16)
    assert batch.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 2
    assert [name for name, _ in batch.unreadable] == ["test/red/001.jpg"]


def test_batches_are_the_same_in_any_number_of_processes(tmp_path: Path) -> None:
    images = open_images(squares(tmp_path / "data"))

    def pixels(workers: int, epochs: tuple[int, ...]) -> list[torch.Tensor]:
        batches = training_batches(
            images,
            images.split("train"),
            images.classes(),
            RECIPE.augmentation,
            batch_size=RECIPE.batch_size,
            seed=RECIPE.seed,
            size=16,
            workers=workers,
        )
        return [batch.images for epoch in epochs for batch in batches.epoch(epoch)]

    alone = pixels(0, (1, 2))
    assert len(alone) == 6
    assert all(torch.equal(a, b) for a, b in zip(alone, pixels(2, (1, 2)), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(alone[3:], pixels(0, (2,)), strict=True))
    assert not torch.equal(alone[0], alone[3]), "every epoch has an order and augmentations of its own"


def test_the_strongest_posterising_keeps_a_bit(tmp_path: Path) -> None:
    import dataclasses

    images = open_images(squares(tmp_path / "data", train=4))
    recipe = dataclasses.replace(RECIPE, auto_augment="rand-m10-n15-inc1")  # each image meets each operation
    batches = training_batches(
        images,
        images.split("train"),
        images.classes(),
        recipe.augmentation,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        size=16,
        workers=0,
    )
    assert sum(len(batch.labels) for epoch in range(1, 9) for batch in batches.epoch(epoch)) == 8 * 12


def test_the_global_generators_are_left_alone(tmp_path: Path) -> None:
    images = open_images(squares(tmp_path / "data", train=4))
    batches = training_batches(
        images,
        images.split("train"),
        images.classes(),
        RECIPE.augmentation,
        batch_size=RECIPE.batch_size,
        seed=RECIPE.seed,
        size=16,
        workers=0,
    )
    random.seed(1)
    torch.manual_seed(1)
    expected = random.random(), torch.rand(1)
    random.seed(1)
    torch.manual_seed(1)
    for _ in batches.epoch(1):
        pass
    assert (random.random(), torch.rand(1)) == expected
