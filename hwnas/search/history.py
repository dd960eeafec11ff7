"""Evaluated: what a sampler knows of the networks that were evaluated, in arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwnas.search.trial import Trial
from hwnas.types import Floats, Ints

__all__ = ["Evaluated", "of_trials"]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Networks that were evaluated, in their order."""

    vectors: Ints
    """(n, decisions)"""
    known: Floats
    """(n, objectives): what was known beforehand, minimised."""
    scores: Floats
    """(n,): maximised."""
    deviations: Floats
    """(n,): what the estimator said of its own error, 0 where it said nothing."""

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> Evaluated:
        return Evaluated(self.vectors[rows], self.known[rows], self.scores[rows], self.deviations[rows])

    def joined(self, other: Evaluated) -> Evaluated:
        """These, then those."""
        return Evaluated(
            np.concatenate([self.vectors, other.vectors]),
            np.concatenate([self.known, other.known]),
            np.concatenate([self.scores, other.scores]),
            np.concatenate([self.deviations, other.deviations]),
        )


def of_trials(trials: Sequence[Trial], *, minimised: Sequence[str], decisions: int) -> Evaluated:
    """The trials in arrays: `minimised` names what is minimised, as `Trial.number` takes it.

    The score is the lower bound of the accuracy.
    """
    vectors = np.array([trial.vector for trial in trials], dtype=np.int64).reshape(len(trials), decisions)
    known = np.array([[trial.number(name) for name in minimised] for trial in trials], dtype=float)
    scores = np.array([trial.accuracy.lower_bound() for trial in trials], dtype=float)
    deviations = np.array([trial.accuracy.std for trial in trials], dtype=float)
    return Evaluated(vectors, known.reshape(len(trials), len(minimised)), scores, deviations)
