"""What `hwnas measure` is asked to time, and where it keeps what that took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas.cli.budget import promise_of_run, resolve_promised
from hwnas.cli.common import resolve_arch
from hwnas.cli.weights import dense_checkpoint
from hwnas.errors import UsageError
from hwnas.paths import is_text

if TYPE_CHECKING:
    from hwnas.export.exported_file import ExportedFile
    from hwnas.predictors.latency.measurements import Measurement
    from hwnas.space import ArchSpec
    from hwnas.targets import Promise

__all__ = ["Subject", "folder_of", "keep", "models_of", "subjects"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A network to be timed."""

    arch: ArchSpec
    folder: Path | None = None
    """Of the run or training that it is from."""
    file: ExportedFile | None = None
    """The exported model that is timed; None for the deployment graph of `arch`, with random weights."""
    promise: Promise | None = None
    """The latency budgets that the network was searched for; None for one that is of no run."""


def subjects(archs: Sequence[str]) -> dict[str, Subject]:
    """What the arguments name, each network once, in the order given.

    Raises UsageError when nothing goes by a name, FileFormatError when the file that it names is damaged.
    """
    from hwnas.export.exported_file import find_exported
    from hwnas.export.formats import SUFFIXES

    found: dict[str, Subject] = {}
    for text in archs:
        path = Path(text)
        if text == "presets":
            from hwnas.space import preset, preset_names

            found |= {name: Subject(preset(name)) for name in preset_names()}
        elif path.suffix in SUFFIXES:
            file = find_exported(path)
            found[text] = Subject(file.arch, file=file)
        elif (path / "run.yaml").is_file():
            from hwnas.search import load_run

            run = load_run(path)
            front = run.front
            if not front:
                raise UsageError(f"{text}: this run's front is empty, there is nothing to measure")
            for number, candidate in enumerate(front, start=1):
                promise = promise_of_run(run, candidate.arch)
                found[f"{path.name}#{number}"] = Subject(candidate.arch, folder=path, promise=promise)
        elif (dense := dense_checkpoint(text)) is not None:
            raise UsageError(
                f"{text} is a {dense.task} network, which is measured as an exported file: "
                f"hwnas export {text} --out dense.onnx && hwnas measure dense.onnx"
            )
        else:
            name, _ = resolve_arch(text)
            _, arch, own = resolve_promised(text)
            found[name] = Subject(arch, folder=folder_of(text), promise=own)
    return found


def models_of(named: Mapping[str, Subject], settings: Mapping[str, Any]) -> dict[str, ArchSpec | bytes]:
    """What is timed by each name; raises UsageError for a file that cannot be run with the settings."""
    models: dict[str, ArchSpec | bytes] = {}
    for name, subject in named.items():
        file = subject.file
        if file is None:
            models[name] = subject.arch
            continue
        for setting, own in (("precision", file.precision), ("batch", file.batch)):
            if own not in (None, settings[setting]):
                raise UsageError(
                    f"{name}: all that is measured at once has one {setting}, got {own} for "
                    f"{settings[setting]}: measure this file by itself"
                )
        models[name] = file.model(settings["runtime"])
    return models


def folder_of(text: str) -> Path | None:
    """The folder of the run or training that an ARCH names; None for a preset and an architecture file."""
    path = Path(text)
    if path.is_dir():
        return path
    if path.is_file():
        return None if is_text(path) else path.parent
    run, mark, _ = text.rpartition("#")
    return Path(run) if mark and Path(run).is_dir() else None


def keep(named: Mapping[str, Subject], measured: Mapping[str, Measurement]) -> list[Path]:
    """Writes each measurement to the card of its file, or into the folder of its run or training; where.

    Raises UsageError when something cannot be written.
    """
    from hwnas.export.model_card import add_measured
    from hwnas.predictors.latency.measurements import record

    written: list[Path] = []
    by_folder: dict[Path, list[Measurement]] = {}
    for name, subject in named.items():
        if subject.file is not None:
            written.append(add_measured(subject.file.path, subject.file.card, measured[name])[0])
        elif subject.folder is not None:
            by_folder.setdefault(subject.folder, []).append(measured[name])
    return written + [record(folder, own) for folder, own in by_folder.items()]
