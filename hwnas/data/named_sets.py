"""Data sets by name, as torchvision lays them out on the disk: nothing is downloaded, what is missing is
said with the command that gets it.

    cifar10:PATH       PATH/cifar-10-batches-py
    cifar100:PATH      PATH/cifar-100-python
    flowers102:PATH    PATH/flowers-102; train and val together are trained on, test is evaluated on
    oxford-pet:PATH    PATH/oxford-iiit-pet; trainval is trained on, test is evaluated on
    imagenet:PATH      PATH/train/WNID/*.JPEG and PATH/val/WNID/*.JPEG

The CIFARs' files are pickles, which can run any code when loaded: torchvision compares their checksums
with the published ones first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hwnas import plugins
from hwnas.data.folders import open_files
from hwnas.data.images import Image, Images, indexed, is_image
from hwnas.errors import FileFormatError, HwnasError, UsageError
from hwnas.paths import user_path

__all__ = ["NAMED_SETS", "open_named"]


def open_named(text: str) -> Images | None:
    """The data set of `NAME:PATH`, or None where the text has no such name.

    Raises UsageError when the set is not at PATH, FileFormatError when it is damaged.
    """
    name, sign, place = text.partition(":")
    if not sign or name not in NAMED_SETS:
        return None
    return NAMED_SETS[name](user_path(place or "."))


def _cifar(kind: str, folder: str, root: Path) -> Images:
    """CIFAR's pixels as image files in memory: 60,000 of 3 KB."""
    sets: Any = plugins.require("torchvision.datasets", extra="torch")
    root = root.parent if root.name == folder else root
    if not (root / folder).is_dir():
        raise _missing(kind.lower(), root / folder, f"torchvision.datasets.{kind}('{root}', download=True)")
    memory = bytearray()
    found = []
    for split in ("train", "test"):
        try:
            part = getattr(sets, kind)(str(root), train=split == "train")
        except Exception as error:  # of torchvision, pickle and numpy, whatever a damaged file leads to
            raise FileFormatError(
                f"{root / folder}: not the published files: {error}; unpack the archive again"
            ) from None
        high, wide = part.data.shape[1:3]
        head = b"P6 %d %d 255\n" % (wide, high)  # PPM: the pixels as they are
        for number, (pixels, label) in enumerate(zip(part.data, part.targets, strict=True)):
            content = head + pixels.tobytes()
            name = f"{split}/{part.classes[label]}/{number:05}.ppm"
            found.append(Image(name, split, part.classes[label], len(content), len(memory)))
            memory += content
    return indexed(root / folder, found, bytes(memory))


def _flowers(root: Path) -> Images:
    """Oxford 102 Flowers: 2,040 images to train on, 6,149 to evaluate on."""
    folder = root if root.name == "flowers-102" else root / "flowers-102"
    files = [folder / name for name in ("jpg", "imagelabels.mat", "setid.mat")]
    if not all(file.exists() for file in files):
        raise _missing(
            "flowers102", folder, f"torchvision.datasets.Flowers102('{folder.parent}', download=True)"
        )
    reader: Any = plugins.require("scipy.io", extra="torch")
    try:
        labels = reader.loadmat(files[1])["labels"].ravel().tolist()
        parts = reader.loadmat(files[2])
        splits = {"train": ("trnid", "valid"), "test": ("tstid",)}
        numbers = {
            split: sorted(number for key in keys for number in parts[key].ravel().tolist())
            for split, keys in splits.items()
        }
        found = [
            _file(folder, split, f"{labels[number - 1]:03}", f"jpg/image_{number:05}.jpg")
            for split in splits
            for number in numbers[split]
        ]
    except HwnasError:
        raise
    except Exception as error:  # of scipy, whatever a damaged file leads to
        raise FileFormatError(f"{folder}: labels or splits cannot be read: {error}") from None
    return indexed(folder, found)


def _pets(root: Path) -> Images:
    """Oxford-IIIT Pet: 3,680 images of 37 breeds to train on, 3,669 to evaluate on."""
    folder = root if root.name == "oxford-iiit-pet" else root / "oxford-iiit-pet"
    lists = {"train": folder / "annotations" / "trainval.txt", "test": folder / "annotations" / "test.txt"}
    if not all(file.is_file() for file in lists.values()) or not (folder / "images").is_dir():
        raise _missing(
            "oxford-pet", folder, f"torchvision.datasets.OxfordIIITPet('{folder.parent}', download=True)"
        )

    def listed() -> Iterator[Image]:
        for split, file in lists.items():
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                stem, _, numbers = line.partition(" ")
                breed, mark, _ = stem.rpartition("_")
                if not mark or not numbers:
                    raise FileFormatError(f"{file}: a line must be 'BREED_NUMBER CLASS ...', got '{line}'")
                yield _file(folder, split, breed, f"images/{stem}.jpg")

    return indexed(folder, listed())


def _imagenet(root: Path) -> Images:
    """ImageNet-1K as folders of classes."""
    sort = [f"torchvision.datasets.ImageNet('{root}', '{split}')" for split in ("train", "val")]
    if not (root / "train").is_dir() or not (root / "val").is_dir():
        raise UsageError(
            f"imagenet: expected are {root / 'train'} and {root / 'val'}, each with a folder a class. "
            "Sign in at https://image-net.org to get ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and "
            f"ILSVRC2012_devkit_t12.tar.gz, put them into {root}, and let torchvision sort them: "
            f"{_python(*sort)}"
        )
    files = (file.name for file in (root / "val").iterdir() if file.is_file())
    flat = next(filter(is_image, files), "")
    if flat:
        raise UsageError(
            f"imagenet: {root / 'val'} must have a folder a class, got images without, such as '{flat}': "
            f"torchvision sorts the original archive: {_python(sort[1])}"
        )
    return open_files(root)


NAMED_SETS: Mapping[str, Callable[[Path], Images]] = {
    "cifar10": lambda root: _cifar("CIFAR10", "cifar-10-batches-py", root),
    "cifar100": lambda root: _cifar("CIFAR100", "cifar-100-python", root),
    "flowers102": _flowers,
    "oxford-pet": _pets,
    "imagenet": _imagenet,
}
"""Readers by name."""


def _file(folder: Path, split: str, class_name: str, file: str) -> Image:
    """An image of its own file; raises FileFormatError when that is not there."""
    try:
        size_bytes = (folder / file).stat().st_size
    except OSError as error:
        raise FileFormatError(f"{folder / file}: listed, but cannot be read: {error.strerror}") from None
    return Image(f"{split}/{class_name}/{Path(file).name}", split, class_name, size_bytes, 0, file)


def _missing(name: str, folder: Path, call: str) -> UsageError:
    return UsageError(
        f"{name}: not on the disk, expected is {folder}. Where there is a network: {_python(call)}"
    )


def _python(*calls: str) -> str:
    return 'python -c "import torchvision; {}"'.format("; ".join(calls))
