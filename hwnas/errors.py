"""Every deliberate error of hwnas, and the exit code each carries.

    HwnasError                      1  something went wrong that is not the caller's doing
    ├── UsageError                  2  a flag, a name or a configuration is wrong
    │   ├── ArchError                  an architecture (or its file) breaks a rule
    │   ├── SpaceError                 a search space (or its file) breaks a rule
    │   └── MissingPackageError        an optional package is not installed
    ├── InfeasibleError             3  no network fits the budget; says the fastest possible
    │   └── OverBudgetError            a changed network exceeds the budget it was searched for
    ├── BoardError                  4  the board cannot be reached
    ├── UnstableError               5  the machine is too noisy to measure on
    └── FileFormatError             6  a file is corrupt, foreign or of another version
        └── MissingOpError             a table has no row for ops that a network runs

A message gives the fact, then its cause, then the fix. Libraries raise; only the
command line prints and exits.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = [
    "ArchError",
    "BoardError",
    "FileFormatError",
    "HwnasError",
    "InfeasibleError",
    "MissingOpError",
    "MissingPackageError",
    "OverBudgetError",
    "SpaceError",
    "UnstableError",
    "UsageError",
    "did_you_mean",
]


class HwnasError(Exception):
    """Base of all deliberate errors; `exit_code` is what the command line exits with."""

    exit_code = 1

    def __reduce__(self) -> tuple[Any, ...]:
        """For other processes: rebuilt without `__init__`, whose arguments `args` need not be."""
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(kind: type[HwnasError], args: tuple[object, ...], fields: dict[str, Any]) -> HwnasError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class UsageError(HwnasError):
    """A flag, a name or a configuration is wrong."""

    exit_code = 2


class ArchError(UsageError):
    """An architecture breaks a rule. The message lists every broken rule, a line each."""


class SpaceError(UsageError):
    """A search space breaks a rule, or a network is not in it."""


class MissingPackageError(UsageError):
    """An optional package is not installed; the message holds the pip command."""


class InfeasibleError(HwnasError):
    """No network fits the budget."""

    exit_code = 3


class OverBudgetError(InfeasibleError):
    """A network was changed since its run, and now exceeds the run's latency budget."""


class BoardError(HwnasError):
    """The board cannot be reached."""

    exit_code = 4


class UnstableError(HwnasError):
    """The machine is too noisy to measure on."""

    exit_code = 5


class FileFormatError(HwnasError):
    """A file is corrupt, foreign or of another version."""

    exit_code = 6


class MissingOpError(FileFormatError):
    """A table has no row for ops that a network runs; `keys` lists them."""

    def __init__(self, message: str, keys: tuple[str, ...]) -> None:
        super().__init__(message)
        self.keys = keys


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """' Did you mean ...?' with the nearest known name, or '' where none is near.

    The text starts with a blank, so that it can follow a sentence.
    """
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""
