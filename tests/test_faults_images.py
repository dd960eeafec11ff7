"""Faults in folders, archives and files of images: each kind at every place that reads them."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import PIL.ExifTags
import PIL.Image
import pytest
from fuzz_readers import IMAGE_KINDS

from hwnas.data import decoding
from hwnas.data.decoding import UnreadableImageError, decode, sides_of
from hwnas.data.images import Images
from hwnas.data.look import look_at
from hwnas.data.pixels import decoded
from hwnas.data.sources import open_images
from hwnas.dense.coco import CocoData, open_coco
from hwnas.errors import FileFormatError, UsageError

CLASSES = ("cat", "dog")


def encoded(image: PIL.Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)  # type: ignore[arg-type]
    return stream.getvalue()


PNG = encoded(PIL.Image.new("RGB", (8, 8), "teal"))
PLAIN = {f"{split}/{name}/{k}.png": PNG for split in ("train", "test") for name in CLASSES for k in range(2)}

Files = Mapping[str, bytes]


def as_folder(files: Files, root: Path) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def as_tar(files: Files, root: Path, *, mode: str = "w", suffix: str = ".tar") -> Path:
    path = root.with_suffix(suffix)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def as_tgz(files: Files, root: Path) -> Path:
    return as_tar(files, root, mode="w:gz", suffix=".tar.gz")


def as_shards(files: Files, root: Path) -> Path:
    """A shard a split, CLASS/NAME inside."""
    root.mkdir()
    for split in ("train", "test"):
        own = {name.removeprefix(f"{split}/"): data for name, data in files.items() if name.startswith(split)}
        as_tar(own, root / f"{split}-0000")
    return root


Packer = Callable[[Files, Path], Path]
PACKERS: dict[str, Packer] = {"folder": as_folder, "tar": as_tar, "tgz": as_tgz, "shards": as_shards}
every_packer = pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)


# --- names ------------------------------------------------------------------------------------


@every_packer
@pytest.mark.parametrize(
    "hidden", [".ipynb_checkpoints", "__MACOSX", "cat/.thumbs", "dog/@eaDir", "dog/.a/b"]
)
def test_a_hidden_folder_is_skipped_wherever_images_are_listed(
    pack: Packer, hidden: str, tmp_path: Path
) -> None:
    more = {f"{split}/{hidden}/x.png": PNG for split in ("train", "test")}
    images = open_images(pack({**PLAIN, **more}, tmp_path / "data"))
    assert images.classes() == CLASSES
    assert len(images.images) == len(PLAIN)


@every_packer
def test_a_name_that_is_not_utf_8_can_be_used_and_printed(pack: Packer, tmp_path: Path) -> None:
    latin = os.fsdecode(b"caf\xe9")
    more = {f"{split}/{latin}/{latin}{k}.png": PNG for split in ("train", "test") for k in range(2)}
    images = open_images(pack({**PLAIN, **more}, tmp_path / "data"))
    assert images.classes() == (r"caf\xe9", *CLASSES)
    for image in images.images:
        assert image.name.isascii()
        assert images.read(image) == PNG


def test_of_two_names_that_print_alike_neither_is_lost_silently(tmp_path: Path) -> None:
    twins = {os.fsdecode(b"train/cat/x\xe9.png"): PNG, r"train/cat/x\xe9.png": PNG}
    with pytest.raises(FileFormatError, match="names must be unique"):
        open_images(as_folder({**PLAIN, **twins}, tmp_path / "data"))


@pytest.mark.parametrize("pack", [as_tar, as_tgz], ids=["tar", "tgz"])
@pytest.mark.parametrize("top", ["train", "test", "val", "train/val", "data/train", "."])
def test_an_outer_folder_may_be_called_as_a_split(pack: Packer, top: str, tmp_path: Path) -> None:
    images = open_images(pack({f"{top}/{name}": data for name, data in PLAIN.items()}, tmp_path / "data"))
    assert images.classes() == CLASSES
    assert [image.name for image in images.images] == sorted(PLAIN)


def test_a_class_may_be_called_as_a_split(tmp_path: Path) -> None:
    renamed = {name.replace("cat", "test").replace("dog", "train"): data for name, data in PLAIN.items()}
    assert open_images(as_tar(renamed, tmp_path / "data")).classes() == ("test", "train")


def test_a_tar_from_windows_has_its_backslashes_read(tmp_path: Path) -> None:
    packed = as_tar({name.replace("/", "\\"): data for name, data in PLAIN.items()}, tmp_path / "data")
    assert len(open_images(packed).images) == len(PLAIN)


# --- keys -------------------------------------------------------------------------------------


def labelled(keys: list[str], suffix: str = "png") -> dict[str, bytes]:
    found = {}
    for number, key in enumerate(keys):
        found |= {f"{key}.{suffix}": PNG, f"{key}.cls": str(number % 2).encode()}
    return found


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (labelled(["0.0", "0.1", "1.0", "1.1"]), "'0.0.cls' and '0.1.cls'"),
        ({**labelled(["a", "b"]), "a.mask.png": PNG}, "'a.png' and 'a.mask.png'"),
        ({**labelled(["a", "b"]), "a.jpg": PNG}, "'a.png' and 'a.jpg'"),
    ],
    ids=["dotted keys", "a mask beside", "two formats"],
)
def test_two_entries_of_one_key_in_a_shard_are_refused_and_named(
    files: Files, named: str, tmp_path: Path
) -> None:
    for split in ("train", "val"):
        as_tar(files, tmp_path / f"{split}-0000")
    with pytest.raises(FileFormatError, match=named):
        open_images(tmp_path)


def test_a_shard_with_the_same_file_twice_is_refused(tmp_path: Path) -> None:
    as_tar(labelled(["a", "b"]), tmp_path / "val-0000")
    path = as_tar(labelled(["a", "b"]), tmp_path / "train-0000")
    with tarfile.open(path, "a") as archive:
        member = tarfile.TarInfo("a.png")
        member.size = len(PNG)
        archive.addfile(member, io.BytesIO(PNG))
    with pytest.raises(FileFormatError, match="have one key"):
        open_images(tmp_path)


# --- links ------------------------------------------------------------------------------------


def test_links_to_classes_splits_and_images_are_followed_and_loops_end(tmp_path: Path) -> None:
    source = as_folder(PLAIN, tmp_path / "source")
    data = tmp_path / "data"
    (data / "train").mkdir(parents=True)
    (data / "test").symlink_to(source / "test")
    (data / "train" / "cat").symlink_to(source / "train" / "cat")
    (data / "train" / "dog").mkdir()
    for file in (source / "train" / "dog").iterdir():
        (data / "train" / "dog" / file.name).symlink_to(file)
    (data / "train" / "dog" / "up").symlink_to(data / "train")
    (data / "train" / "dog" / "self").symlink_to(data / "train" / "dog")
    images = open_images(data)
    assert [image.name for image in images.images if "/up/" not in image.name] == sorted(PLAIN)


def test_links_inside_a_tar_are_followed(tmp_path: Path) -> None:
    path = as_tar({name: data for name, data in PLAIN.items() if "/dog/" not in name}, tmp_path / "data")
    with tarfile.open(path, "a") as archive:
        for split in ("train", "test"):
            folder = tarfile.TarInfo(f"{split}/dog")
            folder.type, folder.linkname = tarfile.SYMTYPE, "cat"
            archive.addfile(folder)
        hard = tarfile.TarInfo("train/cat/again.png")
        hard.type, hard.linkname = tarfile.LNKTYPE, "train/cat/0.png"
        archive.addfile(hard)
    images = open_images(path)
    assert [image.name for image in images.images] == sorted([*PLAIN, "train/cat/again.png"])
    assert all(images.read(image) == PNG for image in images.images)


def test_a_link_to_nowhere_and_what_is_no_file_are_left_out_and_named(tmp_path: Path) -> None:
    data = as_folder(PLAIN, tmp_path / "data")
    (data / "train/cat/gone.jpg").symlink_to("/nowhere/gone.jpg")
    (data / "test/cat/loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(data / "test/dog/pipe.jpg")
    images = open_images(data)
    assert len(images.images) == len(PLAIN)
    assert [name for name, _ in images.left_out] == [
        "test/cat/loop.jpg",
        "test/dog/pipe.jpg",
        "train/cat/gone.jpg",
    ]
    assert dict(images.left_out)["train/cat/gone.jpg"].startswith("a link to nowhere")


def test_a_shard_that_is_a_link_to_nowhere_is_a_clear_error(tmp_path: Path) -> None:
    as_shards(PLAIN, tmp_path / "data")
    (tmp_path / "data" / "train-0001.tar").symlink_to("/nowhere.tar")
    with pytest.raises(FileFormatError, match=r"train-0001\.tar"):
        open_images(tmp_path / "data")


# --- COCO -------------------------------------------------------------------------------------


def coco(root: Path, names: list[str], files: list[str], size: tuple[int, int] = (64, 48)) -> CocoData:
    for split in ("train", "val"):
        for file in files:
            (root / split / file).parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.new("RGB", size).save(root / split / file)
        document = {
            "images": [
                {"id": number, "file_name": name, "width": size[0], "height": size[1]}
                for number, name in enumerate(names)
            ],
            "categories": [{"id": 1, "name": "box"}],
            "annotations": [
                {"id": number, "image_id": number, "category_id": 1, "bbox": [5, 5, 20, 20]}
                for number in range(len(names))
            ],
        }
        (root / split / "annotations.json").write_text(json.dumps(document))
    return open_coco(root, outlines=False)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("0.png", "images/0.png"),
        ("images/0.png", "images/0.png"),
        ("images\\0.png", "images/0.png"),
        ("sub\\0.png", "images/sub/0.png"),
        ("./0.png", "images/0.png"),
        ("0.png", "0.png"),
        ("photos/0.png", "photos/0.png"),
    ],
)
def test_a_file_name_of_coco_is_relative_to_the_images_or_to_the_annotations(
    name: str, file: str, tmp_path: Path
) -> None:
    data = coco(tmp_path, [name], [file])
    assert [photo.path for photo in data.train] == [tmp_path / "train" / file]


@pytest.mark.parametrize("name", ["../0.png", "..\\0.png", "/etc/passwd", "\\etc\\passwd", "a/../../0.png"])
def test_a_file_name_of_coco_stays_within_its_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="must be a file within"):
        coco(tmp_path, [name], ["images/0.png"])


@pytest.mark.parametrize("name", ["a\0b.png", "x" * 300 + ".png", "\ud800.png"], ids=["null", "long", "lone"])
def test_a_file_name_that_no_file_can_have_is_missing(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="missing are"):
        coco(tmp_path, [name], ["images/0.png"])


def test_coco_leaves_hidden_images_out_and_refuses_one_file_for_two(tmp_path: Path) -> None:
    data = coco(tmp_path / "a", ["0.png", ".thumbs/0.png"], ["images/0.png", "images/.thumbs/0.png"])
    assert [photo.path.name for photo in data.train] == ["0.png"]
    assert len(data.train) == 1 and "hidden" in data.left_out[0][1]
    with pytest.raises(FileFormatError, match="have one file"):
        coco(tmp_path / "b", ["0.png", "images/0.png"], ["images/0.png"])


# --- decoding ---------------------------------------------------------------------------------

LEAKS = (NotImplementedError, RuntimeError, KeyError, AttributeError, ZeroDivisionError, AssertionError)


@pytest.mark.parametrize("kind", LEAKS)
def test_whatever_pillow_raises_is_an_unreadable_image(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise kind("broken")

    monkeypatch.setattr(PIL.Image, "open", fails)
    for read in (decode, sides_of):
        with pytest.raises(UnreadableImageError, match="broken"):
            read(PNG)


def test_a_damaged_file_is_an_image_or_an_unreadable_one() -> None:
    random = np.random.default_rng(0)
    picture = PIL.Image.fromarray(random.integers(0, 255, (16, 16, 3), dtype=np.uint8))
    unreadable = 0
    for kind in IMAGE_KINDS:
        try:
            whole = bytearray(encoded(picture, kind))
        except (KeyError, OSError):  # this Pillow does not write it
            continue
        for _ in range(40):
            damaged = bytearray(whole)
            for place in random.integers(0, min(200, len(whole)), 4):
                damaged[place] = random.integers(0, 256)
            try:
                decode(bytes(damaged[: random.integers(len(whole) // 2, len(whole) + 1)]))
            except UnreadableImageError:
                unreadable += 1
    assert unreadable > 50


def photo(orientation: int, kind: str = "JPEG") -> bytes:
    """48 x 32 pixels as stored, the left half of them black."""
    picture = PIL.Image.new("RGB", (48, 32), "white")
    picture.paste("black", (0, 0, 24, 32))
    exif = PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Orientation] = orientation
    return encoded(picture, kind, exif=exif)


DARK = {1: "left", 2: "right", 3: "right", 4: "left", 5: "top", 6: "top", 7: "bottom", 8: "bottom"}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_upright(orientation: int, kind: str) -> None:
    picture = decode(photo(orientation, kind))
    assert picture.size == ((48, 32) if orientation < 5 else (32, 48))
    grey = np.asarray(picture.convert("L"), dtype=float)
    wide, high = picture.size
    sides = {
        "left": grey[:, : wide // 3],
        "right": grey[:, -wide // 3 :],
        "top": grey[: high // 3],
        "bottom": grey[-high // 3 :],
    }
    assert min(sides, key=lambda side: float(sides[side].mean())) == DARK[orientation]


def test_damaged_exif_beside_a_whole_image_does_not_lose_the_image() -> None:
    data = photo(6).replace(b"Exif\0\0", b"Exif\0\0\xff\xff\xff\xff", 1)
    assert decode(data).size in {(48, 32), (32, 48)}


def test_a_dense_photo_counts_upright_and_lying_as_its_annotations_do(tmp_path: Path) -> None:
    from hwnas.dense.data import _Photos
    from hwnas.dense.recipe import read_recipe

    for width, height in ((32, 48), (48, 32)):
        data = coco(
            tmp_path / str(width), ["0.png", "1.png"], ["images/0.png", "images/1.png"], (width, height)
        )
        for one in (*data.train, *data.evaluation):
            one.path.write_bytes(photo(6))
        image, _ = _Photos(data.train, "detect", read_recipe("small"), False)[0, 0]
        assert tuple(image.shape) == (3, height, width)  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "L", "RGB", "RGBa", "La"])
def test_what_is_transparent_is_seen_on_white(mode: str) -> None:
    logo = PIL.Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    logo.paste((0, 0, 0, 255), (8, 8, 24, 24))
    options: dict[str, object] = {}
    kind = "PNG"
    if mode == "P":
        logo = PIL.Image.new("P", (32, 32), 0)
        logo.putpalette([9, 9, 9, 0, 0, 0])
        logo.paste(1, (8, 8, 24, 24))
        options["transparency"] = 0
    elif mode in ("L", "RGB"):
        clear = 7 if mode == "L" else (7, 7, 7)
        logo = PIL.Image.new(mode, (32, 32), clear)
        logo.paste(0 if mode == "L" else (0, 0, 0), (8, 8, 24, 24))
        options["transparency"] = clear
    elif mode != "RGBA":
        logo = logo.convert("LA").convert(mode) if mode in ("PA", "La") else logo.convert(mode)
        kind = "TIFF" if mode in ("RGBa", "La") else "PNG"
    try:
        content = encoded(logo, kind, **options)
    except OSError:
        pytest.skip(f"Pillow writes no {mode}")
    seen = np.asarray(decode(content))
    assert seen[0, 0].tolist() == [255, 255, 255]
    assert seen[16, 16].tolist() == [0, 0, 0]


RAMP = np.linspace(0, 1, 256).reshape(16, 16)


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_a_float_image_keeps_its_levels(top: float) -> None:
    content = encoded(PIL.Image.fromarray((RAMP * top).astype(np.float32)), "TIFF")
    assert len(np.unique(np.asarray(decode(content)))) == 256


@pytest.mark.parametrize("top", [255, 4095, 65535])
@pytest.mark.parametrize(("kind", "dtype"), [("PNG", np.uint16), ("TIFF", np.uint16), ("TIFF", np.int32)])
def test_an_image_of_more_bits_keeps_its_levels(kind: str, dtype: type, top: int) -> None:
    content = encoded(PIL.Image.fromarray((RAMP * top).round().astype(dtype)), kind)
    assert len(np.unique(np.asarray(decode(content)))) == 256


@pytest.mark.parametrize("values", [(-1000, 3000), (-1, 1), (0, 1e9), (0, np.nan), (0, np.inf), (-np.inf, 1)])
def test_values_of_unknown_range_are_refused(values: tuple[float, float]) -> None:
    low, high = values
    pixels = np.full((4, 4), low, np.float32)
    pixels[2:] = high
    with pytest.raises(UnreadableImageError, match="values must be from 0"):
        decode(encoded(PIL.Image.fromarray(pixels), "TIFF"))


@pytest.mark.parametrize("size", [(1, 30000), (30000, 1), (2, 20000), (3, 301), (1, 101)])
def test_a_line_of_pixels_is_refused_before_it_is_decoded(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = encoded(PIL.Image.new("RGB", size))
    monkeypatch.setattr(PIL.Image.Image, "load", lambda _: pytest.fail("decoded"))
    for read in (decode, sides_of):
        with pytest.raises(UnreadableImageError, match="times the shorter one"):
            read(content)


def test_the_most_stretched_image_there_may_be_is_scaled_within_bounds() -> None:
    from hwnas.data.preprocessing import for_classifier

    picture = decode(encoded(PIL.Image.new("RGB", (1, decoding.MOST_STRETCHED))))
    assert for_classifier(224, 0.875).pixels(picture).shape == (224, 224, 3)


# --- the same file at every reader ------------------------------------------------------------


BAD = {
    "thin": encoded(PIL.Image.new("RGB", (1, 3000))),
    "range": encoded(PIL.Image.fromarray(np.full((4, 4), -5, np.float32)), "TIFF"),
    "garbage": b"no image",
    "dds": b"DDS " + bytes([124, 0, 0, 0]) + bytes(range(120)),
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_every_reader_of_images_names_what_it_cannot_read(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hwnas.cli import predict
    from hwnas.data.loader import Augmentation, evaluation_batches

    name = "test/cat/0.png"
    images: Images = open_images(as_folder({**PLAIN, name: content}, tmp_path / "data"))
    batches = evaluation_batches(
        images, images.split("test"), CLASSES, Augmentation(), size=8, batch_size=4, seed=0, workers=0
    )
    (batch,) = batches.epoch(0)
    assert [one for one, _ in batch.unreadable] == [name]
    with pytest.raises(FileFormatError, match=name):
        decoded(images, images.split("test"), CLASSES, side=8)
    skipped: list[dict[str, str]] = []
    assert list(predict._readable([tmp_path / "data" / name], skipped)) == []
    assert len(skipped) == 1 and name in capsys.readouterr().err
    if content is BAD["range"]:
        return  # its head is whole
    bad_training = {f"train/{one}/{k}.png": content for one in CLASSES for k in range(2)}
    with pytest.raises(UsageError, match="no size could be read"):
        look_at(open_images(as_folder({**PLAIN, **bad_training}, tmp_path / "other")))
