"""Optuna without its announcements: a library does not write on stderr."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import optuna
from optuna.exceptions import ExperimentalWarning

__all__ = ["quiet_optuna"]


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Neither the name of each new study nor that a feature is experimental is said."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
