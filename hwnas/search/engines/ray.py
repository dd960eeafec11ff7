"""The engine for many machines: Ray runs the evaluations, this process proposes and records.

A task whose worker or machine dies is run again by Ray. All that is known is in the run directory: when
the process that proposes dies, or the cluster does, the same run is resumed on another one. Without
an address, Ray starts on this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import lru_cache
from typing import Any

import hwnas
from hwnas import plugins
from hwnas.errors import HwnasError, UsageError
from hwnas.ray_cluster import connect
from hwnas.search.execution.ask_tell import propose_and_evaluate
from hwnas.search.execution.processes import DEATHS_ALLOWED, Answer, asker, packed
from hwnas.search.problem import Problem
from hwnas.search.trial import Trial
from hwnas.space.search_space import Vector

__all__ = ["RayTasks", "run"]


def run(
    problem: Problem,
    *,
    sampler: str,
    seed: int,
    wanted: int,
    done: Sequence[Trial],
    on_trials: Callable[[Sequence[Trial]], None],
    stop: Callable[[], bool],
    workers: int = 1,
    address: str | None = None,
    gpus: float = 0.0,
) -> None:
    """Evaluates candidates until `wanted` are there in total, `done` included, or `stop()`.

    Up to `workers` at once, each with `gpus` GPUs (a part of one is a share of it), on the cluster at
    `address` ("auto": the one of this machine). Raises MissingPackageError without Ray, UsageError when
    there is no such cluster or when it runs another version of hwnas.
    """
    with closing(RayTasks(problem, workers=workers, address=address, gpus=gpus)) as evaluator:
        propose_and_evaluate(
            problem,
            evaluator,
            sampler=sampler,
            seed=seed,
            wanted=wanted,
            done=done,
            on_trials=on_trials,
            stop=stop,
        )


class RayTasks:
    """Evaluates up to `workers` batches at once, each as a task of Ray."""

    def __init__(self, problem: Problem, *, workers: int, address: str | None, gpus: float) -> None:
        self.workers = workers
        task = packed(problem.space, problem.accuracy)
        self._ray: Any = plugins.require("ray", extra="ray")
        self._ours = not self._ray.is_initialized()
        if self._ours:
            connect(self._ray, address, cores=workers)
        self._task = self._ray.put(task)
        self._remote = self._ray.remote(num_gpus=gpus, max_retries=DEATHS_ALLOWED - 1)(_evaluate)
        self._begun: dict[Any, int] = {}
        self._count = 0

    def begin(self, vectors: Sequence[Vector]) -> int:
        self._count += 1
        self._begun[self._remote.remote(self._task, list(vectors), hwnas.__version__)] = self._count
        return self._count

    def finished(self) -> dict[int, Answer]:
        done, _ = self._ray.wait(list(self._begun), num_returns=1)
        answers: dict[int, Answer] = {}
        for reference in done:
            try:
                answer: Answer = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                answer = HwnasError(
                    f"Ray gave up an evaluation after {DEATHS_ALLOWED} attempts: "
                    f"{type(error).__name__}: {str(error).strip().splitlines()[0]}. What was evaluated is "
                    "saved: resume the run when the machines work again"
                )
            answers[self._begun.pop(reference)] = answer
        return answers

    def close(self) -> None:
        """Ends what is under way, and Ray too if it was started here."""
        for reference in self._begun:
            self._ray.cancel(reference, force=True)
        self._begun.clear()
        if self._ours:
            self._ray.shutdown()


def _evaluate(task: bytes, vectors: Sequence[Vector], version: str) -> Answer:
    """A task: the accuracies of some networks, where the worker runs the same hwnas."""
    if version != hwnas.__version__:
        return UsageError(
            f"all machines of a search must run one version of hwnas: it searches with {version}, and a "
            f"worker has {hwnas.__version__}. Install {version} there"
        )
    return _asker(task)(vectors)


_asker = lru_cache(maxsize=1)(asker)  # a worker loads an estimator once
