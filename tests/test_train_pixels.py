"""Images kept in memory: what they look like, and what the augmentations may do to them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from train_samples import squares

from hwnas.data.pixels import Pixels, decoded
from hwnas.data.preprocessing import MEAN, STD
from hwnas.data.sources import open_images
from hwnas.errors import FileFormatError


def numbered(count: int = 12, side: int = 8) -> Pixels:
    """Images whose every pixel is another one."""
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)
    return Pixels(images, torch.arange(count) % 3, ("a", "b", "c"))


def bytes_of(images: torch.Tensor) -> torch.Tensor:
    mean, deviation = (torch.tensor(values)[:, None, None] * 255 for values in (MEAN, STD))
    return (images * deviation + mean).round().to(torch.uint8)


def test_images_are_decoded_in_order_with_the_place_of_their_class(tmp_path: Path) -> None:
    images = open_images(squares(tmp_path, train=2, test=1))
    pixels = decoded(images, images.split("train"), images.classes(), side=10)
    assert pixels.images.shape == (6, 3, 10, 10)
    assert pixels.labels.tolist() == [0, 0, 1, 1, 2, 2]
    brightest_channel = {"blue": 2, "green": 1, "red": 0}
    for image, label in zip(pixels.images, pixels.labels, strict=True):
        excess = (image.float() - image.float().mean(0)).amax((1, 2))  # grey has none
        assert int(excess.argmax()) == brightest_channel[pixels.classes[label]]


def test_an_image_that_does_not_decode_is_named(tmp_path: Path) -> None:
    folder = squares(tmp_path, train=2, test=1)
    (folder / "train/red/000.jpg").write_bytes(b"no image")
    images = open_images(folder)
    with pytest.raises(FileFormatError, match=r"got 1 that do not: train/red/000.jpg \(not an image\)"):
        decoded(images, images.split("train"), images.classes(), side=8)


def test_evaluation_sees_every_image_once_unchanged_and_in_order() -> None:
    pixels = numbered(5)
    seen = list(pixels.evaluation_batches(2))
    assert [len(labels) for _, labels in seen] == [2, 2, 1]
    assert torch.equal(bytes_of(torch.cat([images for images, _ in seen])), pixels.images)
    assert torch.equal(torch.cat([labels for _, labels in seen]), pixels.labels)


def test_a_training_image_is_a_shift_of_the_original_perhaps_mirrored() -> None:
    pixels = numbered(12, side=16)
    for images, labels in pixels.training_batches(12, seed=0, epoch=1):
        for image, label in zip(bytes_of(images), labels, strict=True):
            # The inner 12 x 12 pixels must be 12 x 12 pixels of an original of that class.
            inner = image[:, 2:14, 2:14]
            found = any(
                torch.equal(side[:, row : row + 12, column : column + 12], inner)
                for original in pixels.images[pixels.labels == label]
                for side in (original, original.flip(2))
                for row in range(5)
                for column in range(5)
            )
            assert found


def test_order_and_shifts_follow_from_seed_and_epoch_alone() -> None:
    pixels = numbered()

    def epoch(seed: int, number: int) -> torch.Tensor:
        return torch.cat([images for images, _ in pixels.training_batches(4, seed=seed, epoch=number)])

    before = torch.get_rng_state()
    first = epoch(0, 1)
    assert torch.equal(first, epoch(0, 1))
    assert not torch.equal(first, epoch(0, 2))
    assert not torch.equal(first, epoch(1, 1))
    assert torch.equal(before, torch.get_rng_state()), "the global generator must not move"


def test_the_last_smaller_batch_of_a_training_is_left_out() -> None:
    assert [len(labels) for _, labels in numbered(11).training_batches(4, seed=0, epoch=1)] == [4, 4]


def test_the_first_images_hold_every_class_evenly() -> None:
    pixels = Pixels(numbered(12).images, torch.arange(12) // 4, ("a", "b", "c"))
    assert sorted(pixels.first(6).labels.tolist()) == [0, 0, 1, 1, 2, 2]
