"""What the verbs that need a network with its weights share: a checkpoint's, or random ones."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas.cli.common import resolve_arch
from hwnas.errors import FileFormatError, MissingPackageError, UsageError
from hwnas.paths import is_text

if TYPE_CHECKING:
    from hwnas.dense.checkpoint import DenseCheckpoint
    from hwnas.nn.network import Network
    from hwnas.train.checkpoint import Checkpoint

__all__ = ["dense_checkpoint", "named_network"]


def dense_checkpoint(text: str) -> DenseCheckpoint | None:
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
        sys.stderr.write(f"{reason}; taking another checkpoint of that training\n")
    return checkpoint


def named_network(text: str) -> tuple[str, Network, Checkpoint | None]:
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
            sys.stderr.write(f"{reason}; taking another checkpoint of that training\n")
        network = trained_network(checkpoint)
        assert isinstance(network, Network)
        return _name(checkpoint, path), network, checkpoint
    name, arch = resolve_arch(text)
    return name, randomise(build(arch)), None


def _name(checkpoint: Checkpoint, path: Path) -> str:
    """What the network is called; earlier versions kept a preset's name for what became of it."""
    from hwnas.space import preset, preset_names
    from hwnas.space.changes import renamed

    name = checkpoint.name or path.stem
    return renamed(name, preset(name), checkpoint.arch) if name in preset_names() else name
