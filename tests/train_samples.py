"""What the training tests share: small folders of coloured squares, and a network that learns them."""

from __future__ import annotations

import dataclasses
import io
import os
import random
import socket
import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path

from hwnas.space import ArchSpec
from hwnas.space.arch import Reuse, SingleHead, Stage, Stem
from hwnas.train.recipe import Recipe

COLOURS = {"blue": (40, 60, 220), "green": (30, 200, 60), "red": (220, 50, 40)}

ARCH = ArchSpec(
    resolution=16,
    stem=Stem(stride=4),
    stages=(
        Stage(width=16, blocks=(SingleHead(channels=8, key_dim=4),)),
        Stage(width=32, blocks=(Reuse(heads=2, kernels=(1, 3), query_kernel=3),)),
    ),
)
"""Two stages, two attentions, a moment to train."""

RECIPE = Recipe(
    epochs=3,
    batch_size=12,
    lr=3e-3,
    lr_batch_size=12,
    warmup_epochs=0.5,
    weight_decay=0.02,
    clip_grad_norm=1.0,
    mixup_alpha=0.2,
    cutmix_alpha=0.5,
    label_smoothing=0.1,
    random_erasing=0.2,
    auto_augment="rand-m5-mstd0.5-inc1",
    crop_scale_min=0.6,
    eval_crop=1.0,
    ema_decay=0.9,
    workers=0,
)
"""Everything random is on."""

PLAIN_RECIPE = dataclasses.replace(
    RECIPE, mixup_alpha=0.0, cutmix_alpha=0.0, random_erasing=0.0, auto_augment="", epochs=6, ema_decay=0.7
)
"""Nothing that makes an easy set hard."""


def square_jpeg(colour: tuple[int, int, int], rng: random.Random, side: int = 20) -> bytes:
    """A square of the colour somewhere on a grey ground, as a JPEG file."""
    from PIL import Image, ImageDraw

    grey = rng.randrange(60, 200)
    picture = Image.new("RGB", (side, side), (grey, grey, grey))
    left, top, size = rng.randrange(side // 2), rng.randrange(side // 2), rng.randrange(side // 3, side // 2)
    ImageDraw.Draw(picture).rectangle((left, top, left + size, top + size), fill=colour)
    return encoded(picture, "JPEG")


def encoded(picture: object, kind: str) -> bytes:
    """The bytes of a Pillow image in a file format."""
    buffer = io.BytesIO()
    picture.save(buffer, kind)  # type: ignore[attr-defined]
    return buffer.getvalue()


def squares(root: Path, *, train: int = 12, test: int = 8) -> Path:
    """root/train/COLOUR/*.jpg and root/test/COLOUR/*.jpg, that many of each class."""
    rng = random.Random(7)
    for split, count in (("train", train), ("test", test)):
        for name, colour in COLOURS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number:03}.jpg").write_bytes(square_jpeg(colour, rng))
    return root


def packed(folder: Path, archive: Path, mode: str) -> Path:
    """The folder as a tar, with everything inside a folder of its own, as archives often are."""
    with tarfile.open(archive, mode) as tar:
        tar.add(folder, arcname="squares")
    return archive


def launched(script: str, *arguments: str) -> None:
    """Runs a script in two processes with the environment that torchrun gives them; both must succeed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    root = Path(__file__).parents[1]
    paths = os.pathsep.join([str(root), str(root / "tests")])
    running = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), *arguments],
            env={
                **os.environ,
                "PYTHONPATH": paths,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": "1",
            },
        )
        for rank in range(2)
    ]
    try:
        assert [process.wait(120) for process in running] == [0, 0]
    finally:
        for process in running:
            process.kill()
            process.wait()
