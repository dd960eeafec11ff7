"""Evaluator: who asks the estimator about networks; here, one after the other.

An engine begins some and asks what is finished. `hwnas.search.processes` does the same in processes,
the engine `ray` on other machines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hwnas.errors import HwnasError
from hwnas.predictors.estimate import Estimate
from hwnas.search.problem import Problem, Vector

__all__ = ["Answer", "Evaluator", "Here"]

Answer = list[Estimate] | HwnasError
"""The accuracies of networks in the order in which they were asked for, or why there are none."""


class Evaluator(Protocol):
    """Asks for accuracies, of up to `workers` lots at once."""

    workers: int

    def begin(self, vectors: Sequence[Vector]) -> int:
        """Has a lot of networks evaluated; gives the number that its answer will have."""
        ...

    def finished(self) -> dict[int, Answer]:
        """Waits until something that was begun is answered; each answer is given once.

        Ctrl-C may end the waiting; what was begun goes on then.
        """
        ...

    def close(self) -> None:
        """Ends what is under way."""
        ...


class Here:
    """In this process, when the answer is asked for."""

    workers = 1

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._begun: dict[int, Sequence[Vector]] = {}
        self._count = 0

    def begin(self, vectors: Sequence[Vector]) -> int:
        self._count += 1
        self._begun[self._count] = vectors
        return self._count

    def finished(self) -> dict[int, Answer]:
        lot, vectors = next(iter(self._begun.items()))
        del self._begun[lot]
        space, accuracy = self._problem.space, self._problem.accuracy
        try:
            return {lot: [accuracy.predict(space.decode(vector)) for vector in vectors]}
        except HwnasError as error:
            return {lot: error}

    def close(self) -> None:
        pass
