"""torchvision's data sets by name: read where they lie, damage and absence said."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torchvision")
pytest.importorskip("timm")

import torchvision
from PIL import Image
from scipy.io import savemat
from train_samples import ARCH, COLOURS, RECIPE, square_jpeg, squares

from hwnas.cli.app import main
from hwnas.data.loader import decode
from hwnas.data.named_sets import NAMED_SETS
from hwnas.data.sources import open_images
from hwnas.errors import FileFormatError, UsageError


def cifar(root: Path, monkeypatch: pytest.MonkeyPatch, *, fine: bool = False) -> dict[str, np.ndarray]:
    """A CIFAR of a few images in torchvision's files, whose checksums it is made to expect; the pixels."""
    kind: Any = torchvision.datasets.CIFAR100 if fine else torchvision.datasets.CIFAR10
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels: dict[str, np.ndarray] = {}
    key = "fine_labels" if fine else "labels"
    lists: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    for name, split in (("train", "train_list"), ("test", "test_list")):
        pixels[name] = rng.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
        labels = [0, 1, 2, 0, 1, 2]
        content = pickle.dumps({"data": pixels[name].reshape(6, -1), key: labels})
        (folder / name).write_bytes(content)
        lists[split].append([name, hashlib.md5(content).hexdigest()])
    meta = pickle.dumps({kind.meta["key"]: ["cat", "apple", "boat"]})
    (folder / kind.meta["filename"]).write_bytes(meta)
    for split, files in lists.items():
        monkeypatch.setattr(kind, split, files)
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": hashlib.md5(meta).hexdigest()})
    return pixels


@pytest.mark.parametrize("fine", [False, True])
def test_cifar_has_its_pixels_and_its_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fine: bool
) -> None:
    pixels = cifar(tmp_path, monkeypatch, fine=fine)
    name, folder = ("cifar100", "cifar-100-python") if fine else ("cifar10", "cifar-10-batches-py")
    images = open_images(f"{name}:{tmp_path}")
    assert images.classes() == ("apple", "boat", "cat")
    assert images.evaluation_split() == "test"
    for split in ("train", "test"):
        for image in images.split(split):
            number = int(image.name.rpartition("/")[2].removesuffix(".ppm"))
            seen = np.asarray(decode(images.read(image))).transpose(2, 0, 1)
            assert np.array_equal(seen, pixels[split][number])
            assert image.class_name == ("cat", "apple", "boat")[number % 3]
    assert open_images(f"{name}:{tmp_path / folder}").images == images.images, "the inner folder does as well"


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploded",)


def test_a_cifar_file_that_is_not_the_published_one_is_never_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cifar(tmp_path, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / "train").write_bytes(pickle.dumps(_Bomb()))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileFormatError, match="not the published files: .*corrupted"):
        open_images(f"cifar10:{tmp_path}")
    assert not Path("exploded").exists()


def flowers(root: Path) -> Path:
    folder = root / "flowers-102"
    (folder / "jpg").mkdir(parents=True)
    colours = [COLOURS[name] for name in sorted(COLOURS)]
    for number in range(1, 10):
        (folder / "jpg" / f"image_{number:05}.jpg").write_bytes(
            square_jpeg(colours[number % 3], random.Random(number))
        )
    savemat(folder / "imagelabels.mat", {"labels": np.array([[1 + number % 3 for number in range(1, 10)]])})
    splits = {"trnid": [[1, 2, 3]], "valid": [[6, 5, 4]], "tstid": [[7, 8, 9]]}
    savemat(folder / "setid.mat", {key: np.array(value) for key, value in splits.items()})
    return folder


def test_flowers_train_on_train_and_val_and_are_judged_on_test(tmp_path: Path) -> None:
    folder = flowers(tmp_path)
    images = open_images(f"flowers102:{tmp_path}")
    assert images.classes() == ("001", "002", "003")
    assert [image.file for image in images.split("test")] == [
        "jpg/image_00009.jpg", "jpg/image_00007.jpg", "jpg/image_00008.jpg"
    ]  # fmt: skip
    assert len(images.split("train")) == 6
    image = images.split("train")[0]
    assert (image.name, image.class_name) == ("train/001/image_00003.jpg", "001")
    assert images.read(image) == (folder / "jpg" / "image_00003.jpg").read_bytes()

    (folder / "jpg" / "image_00005.jpg").unlink()
    with pytest.raises(FileFormatError, match=r"image_00005\.jpg: listed, but cannot be read: No such file"):
        open_images(f"flowers102:{tmp_path}")
    (folder / "setid.mat").write_bytes(b"not a matrix")
    with pytest.raises(FileFormatError, match="labels or splits cannot be read"):
        open_images(f"flowers102:{tmp_path}")


def pets(root: Path) -> Path:
    folder = root / "oxford-iiit-pet"
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for split, numbers in (("trainval", (1, 2, 3)), ("test", (4, 5))):
        lines = []
        for label, (breed, colour) in enumerate({"Abyssinian": "red", "american_bulldog": "blue"}.items()):
            for number in numbers:
                stem = f"{breed}_{number}"
                picture = Image.open(io.BytesIO(square_jpeg(COLOURS[colour], random.Random(number))))
                picture.save(folder / "images" / f"{stem}.jpg", "PNG" if number == 2 else "JPEG")
                lines.append(f"{stem} {label + 1} 1 1")
        (folder / "annotations" / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_pets_are_told_apart_by_breed(tmp_path: Path) -> None:
    folder = pets(tmp_path)
    images = open_images(f"oxford-pet:{folder}")
    assert images.classes() == ("Abyssinian", "american_bulldog")
    assert (len(images.split("train")), len(images.split("test"))) == (6, 4)
    assert all(decode(images.read(image)).mode == "RGB" for image in images.images)
    (folder / "annotations" / "test.txt").write_text("Abyssinian\n")
    with pytest.raises(FileFormatError, match="a line must be 'BREED_NUMBER CLASS ...', got 'Abyssinian'"):
        open_images(f"oxford-pet:{folder}")


def test_imagenet_is_a_folder_a_class_in_both_splits(tmp_path: Path) -> None:
    root = squares(tmp_path / "imagenet")
    (root / "test").rename(root / "val")
    assert open_images(f"imagenet:{root}").images == open_images(root).images
    (root / "val" / "ILSVRC2012_val_00000001.JPEG").write_bytes(b"x")
    with pytest.raises(UsageError, match="a folder a class, got images without, such as 'ILSVRC2012"):
        open_images(f"imagenet:{root}")


@pytest.mark.parametrize("name", NAMED_SETS)
def test_a_missing_set_says_how_to_get_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"{name}: .*expected") as caught:
        open_images(f"{name}:{tmp_path}")
    call = str(caught.value).rpartition('python -c "')[2].rstrip('"')
    kind = call.partition("torchvision.datasets.")[2].partition("(")[0]
    assert hasattr(torchvision.datasets, kind), "the command that it names exists"
    compile(call, "the message", "exec")
    assert "download=True" in call or "image-net.org" in str(caught.value)


def test_a_named_set_is_trained_on_and_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pets(tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(ARCH.to_yaml())
    Path("quick.yaml").write_text(RECIPE.to_yaml())
    line = ["--data", f"oxford-pet:{tmp_path}", "--accelerator", "cpu"]
    assert main(["train", "tiny.yaml", *line, "--recipe", "quick.yaml", "--epochs", "1", "--batch", "6"]) == 0
    assert main(["evaluate", "trainings/tiny-1", *line]) == 0
    assert "on 4 images of 'test'" in capsys.readouterr().out
    assert main(["evaluate", "trainings/tiny-1", "--data", "cifar10:nowhere"]) == 2
    assert "cifar10: not on the disk, expected is nowhere/cifar-10-batches-py" in capsys.readouterr().err
