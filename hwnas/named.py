"""Networks by name: what a preset, an architecture file, RUN#2, a checkpoint or an exported file stands for.

The command line and the public API (`hwnas.api`) find networks here. Nothing heavy is imported before a
checkpoint or an exported file is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas import gallery
from hwnas.errors import FileFormatError, HwnasError, MissingPackageError, UsageError, did_you_mean
from hwnas.io import yaml as yaml_io
from hwnas.paths import exists, is_text
from hwnas.search import Candidate, SearchResult, load_run
from hwnas.space import ArchSpec, preset, preset_names
from hwnas.space.changes import renamed
from hwnas.targets import Promise, Target

if TYPE_CHECKING:
    from hwnas.dense.checkpoint import DenseCheckpoint
    from hwnas.export.exported_file import ExportedFile
    from hwnas.nn.network import Network
    from hwnas.predictors.latency.measurements import Measurement
    from hwnas.train.checkpoint import Checkpoint
    from hwnas.train.init_weights import Start

__all__ = [
    "Subject",
    "dense_checkpoint",
    "folder_of",
    "keep",
    "models_of",
    "named_network",
    "promise_of_run",
    "promise_of_weights",
    "resolve_arch",
    "resolve_promised",
    "start_of",
    "subjects",
]


def _nobody(sentence: str) -> None:
    """Stands for a listener that was not given."""


def _of_run(text: str) -> tuple[SearchResult, Candidate] | None:
    """The run and the network of its front that RUN#2 or RUN#ID names; None for anything else.

    A network that is on the front in several configurations is the more accurate one by its id.
    """
    run, mark, which = text.rpartition("#")
    if not mark or text in preset_names() or exists(Path(text)):
        return None
    folder = Path(run)
    result = load_run(folder)
    front = result.front
    if not front:
        raise UsageError(f"{folder}: this run's front is empty, there is no network '{which}' on it")
    if which.isdecimal() and len(which) < 4:
        if not 1 <= int(which) <= len(front):
            raise UsageError(f"{folder}: the front has {len(front)} networks, 1 is the best, got #{which}")
        return result, front[int(which) - 1]
    found = {one.id: one for one in reversed(front) if which and one.id.startswith(which)}
    if len(found) == 1:
        return result, next(iter(found.values()))
    if found:
        ids = ", ".join(one.id for one in front if one.id in found)
        raise UsageError(f"{folder}: '{which}' begins {len(found)} ids of the front; give more of it: {ids}")
    hint = did_you_mean(which, [candidate.id for candidate in front])
    raise UsageError(
        f"{folder}: no '{which}' on the front.{hint} Give a number from 1 to {len(front)}, 1 is the best, "
        "or the beginning of an id"
    )


def resolve_arch(text: str) -> tuple[str, ArchSpec]:
    """The architecture that a command's ARCH names, and a short name for it.

    `text` is a preset's name, `gallery:NAME`, an architecture file (YAML), `RUN#2` for the second network
    of a run's front (1 is the best), `RUN#ID` with an id or its beginning, or a checkpoint.

    Raises UsageError when nothing goes by that name; ArchError and FileFormatError when the file
    that it names is wrong.
    """
    known = preset_names()
    if text in known:
        return text, preset(text)
    if text.startswith(gallery.PREFIX):
        listed = gallery.entry(text)
        return listed.name, listed.arch
    if (found := _of_run(text)) is not None:
        return _name_in_run(text), found[1].arch
    path = Path(text)
    if is_text(path):
        return path.stem, ArchSpec.from_dict(yaml_io.read(path), source=str(path))
    if exists(path):
        return _arch_of_checkpoint(path)
    if path.suffix.lower() in (".yaml", ".yml", ".json") or len(path.parts) > 1:
        raise UsageError(f"no file {text}: an architecture is a preset, a YAML file, RUN#2 or a checkpoint")
    raise UsageError(
        f"no architecture '{text}'.{did_you_mean(text, known)} "
        "It may be a preset ('hwnas models' lists them), a YAML file, RUN#2 or a checkpoint"
    )


def _arch_of_checkpoint(path: Path) -> tuple[str, ArchSpec]:
    if path.is_dir() and (path / "run.yaml").exists():
        raise UsageError(f"{path} is a run: name one of its networks, such as '{path}#1'")
    from hwnas.train import checkpoint

    arch: ArchSpec = checkpoint.load(path).arch
    return path.stem, arch


def _name_in_run(text: str) -> str:
    folder, _, which = text.rpartition("#")
    return f"{Path(folder).name}#{which}"


def promise_of_run(run: SearchResult, network: Candidate | ArchSpec) -> Promise:
    """What the run searched for, and that it found this network for it.

    Where the run chose among the tables of a board, the device is the table of the network's own
    configuration: that of the front's first for an architecture that is not on it.
    """
    name = "" if run.path is None else run.path.resolve().name
    config = run.config
    arch = network if isinstance(network, ArchSpec) else network.arch
    own = ""
    if config.configurations:
        pairs = [network] if isinstance(network, Candidate) else []
        pairs += [one for one in run.front if one.id == arch.id]
        own = (pairs or run.front)[0].configuration
    targets = tuple(
        Target(own or target.device, target.budget_ms, config.confidence, config.budget_on)
        for target in config.targets
    )
    return Promise(targets, run=name, network=arch.id)


def resolve_promised(text: str) -> tuple[str, ArchSpec, Promise | None]:
    """(name, architecture, promise) of what an ARCH names, as `resolve_arch`.

    A checkpoint has the name that it was trained under. Without a run the promise is None.
    """
    path = Path(text)
    if path.exists() and not is_text(path) and not (path / "run.yaml").exists():
        from hwnas.train.checkpoint import load

        checkpoint = load(path)
        return checkpoint.name or path.stem, checkpoint.arch, checkpoint.promise
    if (found := _of_run(text)) is not None:
        return _name_in_run(text), found[1].arch, promise_of_run(*found)
    if text.startswith(gallery.PREFIX):
        listed = gallery.entry(text)
        return listed.name, listed.arch, listed.promise
    return *resolve_arch(text), None


def promise_of_weights(init: str | None) -> Promise | None:
    """The promise of the training that `--init` names; None where it names anything else."""
    if init is None or not Path(init).exists():
        return None
    from hwnas.train.checkpoint import load

    try:
        return load(init).promise
    except HwnasError:  # other weights, or damaged ones, which whoever reads them says
        return None


def start_of(init: str | None) -> str | Callable[[ArchSpec], Start] | None:
    """What `--init` names, as `hwnas.train.training` takes it; `supernet:PATH` finds the network's slices."""
    name, mark, path = (init or "").partition(":")
    if name != "supernet" or not mark:
        return init
    from hwnas.supernet.evaluator import find_start

    return partial(find_start, path)


def dense_checkpoint(text: str, *, say: Callable[[str], None] = _nobody) -> DenseCheckpoint | None:
    """The training of `hwnas dense train` that `text` names; None when it names something else."""
    path = Path(text)
    if not path.exists() or is_text(path) or (path / "run.yaml").exists():
        return None
    from hwnas.dense.checkpoint import load

    try:
        checkpoint = load(path)
    except MissingPackageError:
        raise
    except (FileFormatError, UsageError):
        return None  # a classifier's, or damaged: reading it as a classifier says so
    for reason in checkpoint.skipped:
        say(f"{reason}; using another checkpoint of that training")
    return checkpoint


def named_network(
    text: str, *, say: Callable[[str], None] = _nobody
) -> tuple[str, Network, Checkpoint | None]:
    """(name, network, the checkpoint that its weights are from: None where they are random).

    Raises as `resolve_arch` and `hwnas.train.checkpoint.load` do.
    """
    from hwnas.export.timing.random_weights import randomise
    from hwnas.nn.network import Network, build

    path = Path(text)
    if path.exists() and not is_text(path) and not (path / "run.yaml").exists():
        from hwnas.train.checkpoint import load, trained_network

        checkpoint = load(path)
        for reason in checkpoint.skipped:
            say(f"{reason}; using another checkpoint of that training")
        network = trained_network(checkpoint)
        assert isinstance(network, Network)
        return _name(checkpoint, path), network, checkpoint
    name, arch = resolve_arch(text)
    return name, randomise(build(arch)), None


def _name(checkpoint: Checkpoint, path: Path) -> str:
    """What the network is called; earlier versions kept a preset's name for what became of it."""
    name = checkpoint.name or path.stem
    return renamed(name, preset(name), checkpoint.arch) if name in preset_names() else name


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
            found |= {name: Subject(preset(name)) for name in preset_names()}
        elif path.suffix in SUFFIXES:
            file = find_exported(path)
            found[text] = Subject(file.arch, file=file)
        elif (path / "run.yaml").is_file():
            run = load_run(path)
            front = run.front
            if not front:
                raise UsageError(f"{text}: this run's front is empty, there is nothing to measure")
            for number, candidate in enumerate(front, start=1):
                promise = promise_of_run(run, candidate)
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
