"""Where a dense training's weights start: an image classifier's for the backbone, or another dense one's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hwnas.dense.checkpoint import load
from hwnas.dense.networks import DenseNetwork
from hwnas.errors import FileFormatError
from hwnas.io.tensors import below
from hwnas.space import ArchSpec
from hwnas.train.callbacks import Observer
from hwnas.train.init_weights import Start, fitted, initialise

__all__ = ["initialise_dense"]

_BODY = "inner.backbone.body.network."


def initialise_dense(
    network: DenseNetwork,
    asked: Path | str | Callable[[ArchSpec], Start],
    arch: ArchSpec,
    observer: Observer,
) -> None:
    """Start from the weights that `--init` names, or that `asked` finds, where they fit; says which did.

    A dense training gives what has the same name and shape, heads of as many classes included; anything
    else that `hwnas.train.init_weights` knows gives the backbone. Biases within windows are resized.

    Raises UsageError when nothing fits or goes by that name, FileFormatError when a file is damaged.
    """
    if not callable(asked) and Path(asked).exists():
        try:
            other = load(asked)
        except FileFormatError:
            other = None  # a classifier's, or damaged: what follows says so
        if other is not None:
            own = network.state_dict()
            taken = {
                name: weight
                for name, weight in other.state_dict.items()
                if name in own and weight.shape == own[name].shape
            }
            backbone = fitted(below(own, _BODY), below(other.state_dict, _BODY))
            taken |= {f"{_BODY}{name}": weight for name, weight in backbone.items()}
            network.load_state_dict(taken, strict=False)
            observer.note(f"{asked} ({other.task}): {len(taken)} of {len(own)} tensors taken")
            return
    initialise(network.backbone.network, asked, arch, observer)
