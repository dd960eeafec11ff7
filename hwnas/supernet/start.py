"""A subnet's slices of the shared weights as a place to start training from."""

from __future__ import annotations

from pathlib import Path

from hwnas.space import ArchSpec
from hwnas.supernet.judge import Judge
from hwnas.train.init_weights import Start

__all__ = ["find_start"]


def find_start(path: Path | str, arch: ArchSpec) -> Start:
    """The weights of `arch` in the supernet at `path`, BatchNorm's statistics recalibrated.

    Of another image size, the tables of attention biases are resized where a training takes them; of
    other classes, the classifier is left out.

    Raises UsageError when there is no supernet or `arch` is not in its space, FileFormatError when a
    file is damaged.
    """
    judge = Judge.load(path)
    network = judge.network(judge.adapted(arch))
    return Start(f"supernet {path}", dict(network.state_dict()))
