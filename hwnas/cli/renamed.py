"""Earlier names of verbs and options, which still work."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence

__all__ = ["VERBS", "with_current_names"]

VERBS: Mapping[str, str] = {"contest": "train-many"}

_TRAINING = ("train", "evaluate", "supernet", "dense")
_VARIABLE = re.compile(r"HWNAS_(TRAIN|EVALUATE|SUPERNET_[A-Z]+|DENSE_[A-Z]+)_DEVICE")
_NOTE = "note: --device is called --accelerator here; --device is a board elsewhere\n"


def with_current_names(arguments: Sequence[str], verb: str | None) -> list[str]:
    """The arguments with the current names; says on stderr when an option has another name by now.

    The verbs that train or evaluate called `--accelerator` `--device`, which is a board in other verbs.
    """
    current = list(arguments)
    if verb is not None and verb in VERBS:
        current[current.index(verb)] = verb = VERBS[verb]
    if verb not in _TRAINING:
        return current
    for name in [name for name in os.environ if _VARIABLE.fullmatch(name)]:
        os.environ.setdefault(f"{name.removesuffix('DEVICE')}ACCELERATOR", os.environ[name])
    renamed = [
        re.sub(r"^--device(?==|$)", "--accelerator", word)
        for word in current[: current.index("--") if "--" in current else None]
    ]
    if renamed != current[: len(renamed)]:
        sys.stderr.write(_NOTE)
    return renamed + current[len(renamed) :]
