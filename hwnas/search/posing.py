"""What is asked -> a question that can be recorded, and the problem that a search solves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hwnas.errors import UsageError
from hwnas.predictors.accuracy import AccuracyFunction
from hwnas.predictors.estimate import Predictor
from hwnas.search.problem import Problem, check_budget
from hwnas.search.quantities import Latency, Quantity, Size, Tail, Wanted
from hwnas.search.question import Question
from hwnas.search.run import SearchResult
from hwnas.space.search_space import SearchSpace

if TYPE_CHECKING:
    from hwnas.latency import LatencyTable

__all__ = ["Accuracy", "must_ask_the_same", "name_of", "problem_of", "table_of"]

Accuracy = Predictor | AccuracyFunction
"""What says how good a network is: a predictor, or a function that gives a number (in %)."""


def problem_of(
    question: Question, space: SearchSpace, tables: Sequence[LatencyTable], accuracy: Predictor
) -> Problem:
    """What the question asks, with the tables of its devices in their order."""
    tail = question.budget_on == "p95"
    wanted: list[Wanted] = []
    for other, table in zip(question.others, tables[1:], strict=True):
        check_budget(other.budget_ms)
        name = other.quantity(tail=tail)
        latency = Latency(table, space, name=name, confidence=question.confidence)
        quantity: Quantity = Tail(latency, table, space, name=name) if tail else latency
        wanted.append(Wanted(quantity, other.budget_ms, minimised=True))
    for name in dict.fromkeys((*question.limits, *question.objectives)):
        limit = question.limits.get(name)
        if limit is not None and not 0 < limit < math.inf:
            raise UsageError(f"a limit must be a positive number, got {limit} for {name}")
        wanted.append(Wanted(Size(name, space), limit, minimised=name in question.objectives))
    return Problem(
        space,
        tables[0],
        accuracy,
        budget_ms=question.budget_ms,
        confidence=question.confidence,
        budget_on=question.budget_on,
        wanted=wanted,
    )


def must_ask_the_same(
    past: SearchResult,
    *,
    device: str | LatencyTable | Sequence[str | LatencyTable] | None,
    accuracy: str | Accuracy | None,
    **asked: Any,
) -> list[LatencyTable]:
    """The tables of a run's devices, once it is sure that what is asked now is what the run asks.

    What is left out is taken from the run. Raises UsageError with the difference.
    """
    path, recorded = past.path, past.question
    devices: list[str | LatencyTable] = list(recorded.devices)
    if device is not None:
        given = [device] if isinstance(device, str) or not isinstance(device, Sequence) else list(device)
        if len(given) != len(devices):
            raise UsageError(
                f"{path} is a search for {', '.join(recorded.devices)}, got {len(given)} devices. "
                "Leave them out to resume it, or start a new run"
            )
        devices = given
    tables = [table_of(one) for one in devices]
    table = tables[0]
    changes = {name: value for name, value in asked.items() if value is not None}
    if isinstance(changes.get("space"), SearchSpace):
        changes["space"] = changes["space"].to_dict()
    if isinstance(devices[0], str):
        changes["device"] = devices[0]
    budgets = changes.get("budget_ms")
    if isinstance(budgets, Sequence):
        changes["budget_ms"] = budgets[0]
    then = [other.budget_ms for other in recorded.others]
    now_ms = list(budgets[1:]) if isinstance(budgets, Sequence) else then
    if len(now_ms) != len(then):
        raise UsageError(
            f"{path} is a search for {', '.join(recorded.devices)}, got {len(now_ms) + 1} budgets. "
            "Leave them out to resume it, or start a new run"
        )
    changes["others"] = [
        {
            "device": one if isinstance(one, str) else other.device,
            "table_digest": held.digest,
            "provenance": held.provenance,
            "budget_ms": float(ms),
        }
        for one, held, other, ms in zip(devices[1:], tables[1:], recorded.others, now_ms, strict=True)
    ]
    if accuracy is not None:
        changes["accuracy"] = name_of(accuracy)
    now = Question.from_dict(
        recorded.to_dict() | changes | {"table_digest": table.digest, "provenance": table.provenance},
        source=str(path),
    )
    now.must_equal(recorded, run=str(path))
    return tables


def table_of(device: str | LatencyTable) -> LatencyTable:
    """The table, or the one of that name."""
    if not isinstance(device, str):
        return device
    from hwnas.latency import LatencyTable

    return LatencyTable.load(device)


def name_of(accuracy: str | Accuracy) -> str:
    """What a run records of an estimator: a name, or `module:function`."""
    if isinstance(accuracy, str):
        return accuracy
    named = accuracy if hasattr(accuracy, "__qualname__") else type(accuracy)
    return f"{named.__module__}:{named.__qualname__}"
