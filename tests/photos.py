"""What the tests of exported files share: photos of odd sizes, and the program of a model card, run alone."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from train_samples import COLOURS


def photographs(folder: Path, count: int, *, seed: int = 5) -> list[Path]:
    """That many JPEG files of squares and circles, 20 to 120 pixels either way."""
    from PIL import Image, ImageDraw

    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number in range(count):
        width, height = rng.randrange(20, 120), rng.randrange(20, 120)
        grey = rng.randrange(60, 200)
        picture = Image.new("RGB", (width, height), (grey, grey, rng.randrange(60, 200)))
        canvas = ImageDraw.Draw(picture)
        for _ in range(rng.randrange(3)):
            side = rng.randrange(8, min(width, height))
            left, top = rng.randrange(width - side + 1), rng.randrange(height - side + 1)
            shape = rng.choice((canvas.rectangle, canvas.ellipse))
            shape((left, top, left + side, top + side), fill=rng.choice(list(COLOURS.values())))
        files.append(folder / f"{number:03}.jpg")
        picture.save(files[-1], "JPEG", quality=90)
    return files


def program_of(card: Path) -> str:
    """The program in a model card."""
    found = re.search(r"```python\n(.*?)```", card.read_text(encoding="utf-8"), re.DOTALL)
    assert found, f"{card} has no program"
    return found.group(1)


def answers_of(program: str, folder: Path, photos: list[Path]) -> list[str]:
    """What a card's program prints for each photo, beside the files of `folder`, without hwnas.

    It runs once for each photo, which it knows as photo.jpg; the file is opened anew each time.
    """
    script = f"""
import contextlib, io, json, pathlib, shutil, sys
sys.modules["hwnas"] = None
answers = []
for photo in {[str(photo) for photo in photos]!r}:
    shutil.copy(photo, "photo.jpg")
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile({program!r}, "card", "exec"), {{}})
    answers.append(said.getvalue())
pathlib.Path("answers.json").write_text(json.dumps(answers))
"""
    with tempfile.TemporaryDirectory() as beside:
        for file in folder.iterdir():
            (Path(beside) / file.name).symlink_to(file)
        done = subprocess.run([sys.executable, "-c", script], cwd=beside, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        answers: list[str] = json.loads((Path(beside) / "answers.json").read_text())
    return answers
