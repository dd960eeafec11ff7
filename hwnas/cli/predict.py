"""`hwnas predict`: what an exported model sees in photos, by its file and its runtime alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwnas import plugins
from hwnas.cli.common import JsonOption, emit_json, end_with, write_err, write_out
from hwnas.errors import FileFormatError, UsageError

if TYPE_CHECKING:
    import PIL.Image

    from hwnas.export.prediction import Prediction

__all__ = ["command"]


def command(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="Exported file: .onnx, .xml, .param, .tflite or .pt2."),
    ],
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Photos.")],
    top: Annotated[
        int,
        typer.Option("--top", min=1, metavar="N", help="Number of classes to show per photo."),
    ] = 5,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Folder for the photos with the result drawn in."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Classify, detect or segment photos with an exported file.

    Preprocessing and class names come from the file's metadata. Needs Pillow and the runtime of the format;
    torch only for .pt2. A photo that cannot be read is named and skipped; the exit code is 6 when none can
    be read.
    """
    plugins.require("PIL", extra="predict")
    from hwnas.export.prediction import Predictor

    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"--out must be a folder, got the file {out}")
    predictor = Predictor.open(model)
    rows: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    drawn = _free_names(photos)
    for path, photo in _readable(photos, skipped):
        prediction = predictor(photo)
        row = {"photo": str(path), "width": photo.width, "height": photo.height, **prediction.to_dict(top)}
        if out is not None:
            row["drawn"] = str(_save(prediction, photo, out, drawn[path], top))
        rows.append(row)
        if not as_json:
            write_out(f"{path}: {prediction.text(top)}\n")
    if as_json:
        about = predictor.metadata
        emit_json(
            {
                "schema": 1,
                "model": str(model),
                "name": about.name,
                "id": about.arch.id,
                "task": about.task,
                "photos": rows,
                "unreadable": skipped,
            }
        )
    if not rows:
        end_with(FileFormatError(f"none of the {len(photos)} photos can be read, '{photos[0]}' first"))


def _readable(
    photos: Sequence[Path], skipped: list[dict[str, str]]
) -> Iterator[tuple[Path, PIL.Image.Image]]:
    """The photos that can be read; the others are named on stderr and added to `skipped`."""
    from hwnas.data.decoding import UnreadableImageError, decode

    for path in photos:
        try:
            photo = decode(path.read_bytes())
        except (UnreadableImageError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            skipped.append({"photo": str(path), "reason": reason})
            write_err(f"skipped {path}: {reason}\n")
            continue
        yield path, photo


def _free_names(photos: Sequence[Path]) -> dict[Path, str]:
    """A file name of its own for each photo, as photos of two folders may have one name."""
    names: dict[Path, str] = {}
    for path in dict.fromkeys(photos):
        name, number = f"{path.stem}.png", 1
        while name in names.values():
            number += 1
            name = f"{path.stem}-{number}.png"
        names[path] = name
    return names


def _save(prediction: Prediction, photo: PIL.Image.Image, folder: Path, name: str, top: int) -> Path:
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        prediction.drawn(photo, top).save(path)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be written: {error.strerror or error}. Choose another --out"
        ) from None
    return path
