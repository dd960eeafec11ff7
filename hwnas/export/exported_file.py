"""ExportedFile: a model that `hwnas export` wrote, found again by its card, to be timed as it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas import plugins
from hwnas.errors import FileFormatError, UsageError
from hwnas.export.foreign_files import require_safe
from hwnas.export.formats import FORMATS
from hwnas.export.model_card import card_paths, read_card
from hwnas.space import ArchSpec

__all__ = ["ExportedFile", "find_exported"]


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """A model on the disk and what its card says of it."""

    path: Path
    """The file that names the model; others may lie beside it."""
    card: dict[str, Any]
    arch: ArchSpec
    model_format: str
    precision: str
    batch: int | None
    """Images at once; None for any number."""

    @property
    def runtime(self) -> str:
        """The one that the format is for."""
        return FORMATS[self.model_format].runtime

    def model(self, runtime: str) -> bytes:
        """The model as `runtime` takes it; raises UsageError when that reads another format.

        Raises FileFormatError when one of its files is gone, or leads to others or to code.
        """
        form = FORMATS[self.model_format]
        takes = plugins.load("runtimes", runtime).MODEL_FORMAT
        if runtime != form.runtime and (self.model_format != "onnx" or takes != "onnx"):
            raise UsageError(
                f"{self.path}: {runtime} cannot run the format '{self.model_format}': leave --runtime and "
                f"--device out, or name {self.runtime} or a device of it"
            )
        try:
            beside = {suffix: self.path.with_suffix(suffix).read_bytes() for suffix in form.suffixes[:-1]}
            files = beside | {form.suffix: self.path.read_bytes()}
            require_safe(files, self.path)
        except OSError as error:
            raise FileFormatError(
                f"{error.filename}: cannot be read: {error.strerror}: export the model again"
            ) from None
        return form.packer(files, tuple(self.card["input"]["shape"][1:]))


def find_exported(path: Path) -> ExportedFile:
    """The exported model in `path`, a file with one of `formats.SUFFIXES`.

    Raises UsageError when there is no such file or no card beside it, FileFormatError when the card is
    damaged.
    """
    if not path.is_file():
        raise UsageError(f"no file {path}: write one with hwnas export CKPT --out {path}")
    _, beside = card_paths(path)
    if not beside.is_file():
        raise UsageError(
            f"{path}: a model is measured with its card beside it, {beside.name}, which is not there: write "
            "both with hwnas export"
        )
    card = read_card(beside)
    try:
        batch = card["input"]["shape"][0]
        found = ExportedFile(
            path=path,
            card=card,
            arch=ArchSpec.from_dict(card["arch"], source=f"{beside}: arch"),
            model_format=card["format"],
            precision=card["precision"],
            batch=None if batch == "dynamic" else int(batch),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise FileFormatError(f"{beside}: not a whole model card: {type(error).__name__}: {error}") from None
    if found.model_format not in FORMATS:
        raise FileFormatError(f"{beside}: must be of a format that hwnas exports, got '{found.model_format}'")
    return found
