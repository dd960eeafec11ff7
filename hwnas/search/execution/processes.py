"""Processes: several workers on this machine, each with the estimator in a process of its own.

A worker that dies (killed, out of memory) is replaced, and what it was at is given to another, up to a
limit. A worker outlives neither the search nor the process that searches.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Protocol

from hwnas.errors import HwnasError, UsageError
from hwnas.estimate import Estimate, Predictor
from hwnas.foreign import GUARD, require_main
from hwnas.search.problem import Problem
from hwnas.space.search_space import SearchSpace, Vector

__all__ = [
    "DEATHS_ALLOWED",
    "Answer",
    "Evaluator",
    "LocalEvaluator",
    "Processes",
    "asker",
    "packed",
]


# --- evaluation in this process --------------------------------------------------------------


# An engine starts some and asks which are finished. The second half does the same in processes,
# the engine `ray` on other machines.

Answer = list[Estimate] | HwnasError
"""The accuracies of networks in the order in which they were asked for, or why there are none."""


class Evaluator(Protocol):
    """Asks for accuracies, of up to `workers` batches at once."""

    workers: int

    def begin(self, vectors: Sequence[Vector]) -> int:
        """Has a batch of networks evaluated; gives the number that its answer will have."""
        ...

    def finished(self) -> dict[int, Answer]:
        """Waits until something that was begun is answered; each answer is given once.

        Ctrl-C may end the waiting; what was begun goes on then.
        """
        ...

    def close(self) -> None:
        """Ends what is under way."""
        ...


class LocalEvaluator:
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
        batch, vectors = next(iter(self._begun.items()))
        del self._begun[batch]
        space, accuracy = self._problem.space, self._problem.accuracy
        try:
            return {batch: [accuracy.predict(space.decode(vector)) for vector in vectors]}
        except HwnasError as error:
            return {batch: error}

    def close(self) -> None:
        pass


# --- evaluation in worker processes -----------------------------------------------------------

DEATHS_ALLOWED = 3
"""So many workers may die of one batch of networks before the search ends."""


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    connection: Connection
    """Ours: batches go out, answers come in."""
    has_begun: bool = False
    """Whether it said that it is there, or answered."""


@dataclass(slots=True)
class _Batch:
    number: int
    vectors: Sequence[Vector]
    deaths: int = 0


class Processes:
    """Evaluates up to `workers` batches at once."""

    def __init__(self, space: SearchSpace, accuracy: Predictor, *, workers: int) -> None:
        """Raises UsageError for an estimator that another process cannot load."""
        require_main("a search with workers")
        self.workers = workers
        self._task = packed(space, accuracy)
        self._space = space
        self._context = multiprocessing.get_context("spawn")  # a fork would copy the locks of our threads
        self._idle: list[_Worker] = []
        self._busy: dict[int, tuple[_Worker, _Batch]] = {}
        self._count = 0

    def begin(self, vectors: Sequence[Vector]) -> int:
        self._count += 1
        self._give(_Batch(self._count, vectors))
        return self._count

    def finished(self) -> dict[int, Answer]:
        answers: dict[int, Answer] = {}
        while not answers:
            ends = {worker.connection: number for number, (worker, _) in self._busy.items()}
            deaths = {worker.process.sentinel: number for number, (worker, _) in self._busy.items()}
            ready = connection.wait([*ends, *deaths])
            numbers = {(ends | deaths)[one] for one in ready}  # type: ignore[index]
            for number in sorted(numbers):
                worker, batch = self._busy.pop(number)
                try:
                    answer = worker.connection.recv()
                except (EOFError, OSError):
                    self._replace(worker, batch, answers)
                    continue
                if worker.has_begun:
                    answers[number] = answer
                    self._idle.append(worker)
                else:  # it says that it is there, before anything else
                    worker.has_begun = True
                    self._busy[number] = worker, batch
        return answers

    def close(self) -> None:
        """Kills the workers; what they were at is lost."""
        workers = [*self._idle, *(worker for worker, _ in self._busy.values())]
        self._idle.clear()
        self._busy.clear()
        for worker in workers:
            worker.connection.close()
            worker.process.kill()
        for worker in workers:
            worker.process.join()

    def _give(self, batch: _Batch) -> None:
        while True:
            worker = self._idle.pop() if self._idle else self._started()
            try:
                worker.connection.send(batch.vectors)
            except OSError:  # it died while it was idle
                worker.process.join()
                continue
            self._busy[batch.number] = worker, batch
            return

    def _started(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, self._task), name="hwnas worker")
        process.start()
        theirs.close()  # so that its death closes the pipe
        return _Worker(process, ours)

    def _replace(self, dead: _Worker, batch: _Batch, answers: dict[int, Answer]) -> None:
        """Has a batch evaluated again whose worker died, or says that this is enough."""
        dead.process.join()
        batch.deaths += 1
        if dead.process.exitcode == 1 and not dead.has_begun:
            answers[batch.number] = UsageError(
                "a worker process ended before it began (its error is above). A script that searches with "
                f"workers must do so below a line `{GUARD}`, because each worker imports the script"
            )
            return
        if batch.deaths < DEATHS_ALLOWED:
            self._give(batch)
            return
        names = ", ".join(self._space.decode(vector).id for vector in batch.vectors[:3])
        code = dead.process.exitcode
        how = f"the last with exit code {code}"
        advice = "The accuracy estimator must return, and not end its process"
        if code is not None and code < 0:
            how = f"the last by signal {-code}"
            advice = "With fewer --workers each has more memory"
            if -code == signal.SIGKILL:
                how += " (killed, often for want of memory)"
        answers[batch.number] = HwnasError(
            f"evaluating network {names} ended {batch.deaths} processes in a row, {how}. What was evaluated "
            f"is saved. {advice}"
        )


def packed(space: SearchSpace, accuracy: Predictor) -> bytes:
    """What `asker` takes; raises UsageError for an estimator that no other process can load."""
    try:
        return pickle.dumps((space, accuracy))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(
            "several workers need an estimator that another process can load: a name, 'module:function', "
            f"or an object that can be pickled; got one that cannot ({error})"
        ) from None


def _work(ours: Connection, task: bytes) -> None:
    """A worker's life: takes batches and answers them until the pipe closes."""
    # Ctrl-C reaches every process of a terminal: what to do about it is up to the one that searches.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    ours.send(None)
    answer = asker(task)
    while True:
        try:
            vectors = ours.recv()
        except EOFError:
            return
        ours.send(answer(vectors))


def asker(task: bytes) -> Callable[[Sequence[Vector]], Answer]:
    """What answers batches, from a pickled space and estimator; errors are answers that can be sent."""
    try:
        space, accuracy = pickle.loads(task)
    except Exception as error:
        failure = HwnasError(f"a worker cannot load the estimator: {type(error).__name__}: {error}")
        return lambda vectors: failure

    def answer(vectors: Sequence[Vector]) -> Answer:
        try:
            return [accuracy.predict(space.decode(vector)) for vector in vectors]
        except HwnasError as error:
            return _sendable(error)
        except Exception as error:
            failure = HwnasError(f"the estimator failed: {type(error).__name__}: {error}")
            failure.add_note("".join(traceback.format_exception(error)).rstrip())
            return failure

    return answer


def _sendable(error: HwnasError) -> HwnasError:
    """The error, or one with its message where its kind cannot be pickled; a note says where it came from."""
    if error.__cause__ is not None:
        error.add_note("".join(traceback.format_exception(error.__cause__)).rstrip())
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return HwnasError(str(error))
    return error


def _end_with_parent() -> None:
    """Ends this process once the one that started it is gone, whatever it is at."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
