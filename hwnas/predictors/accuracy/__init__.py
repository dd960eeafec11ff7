"""Accuracy estimators, one file each, and how one is named.

The contract of a plug-in `hwnas/predictors/accuracy/<name>.py` (or of an entry point in the group
`hwnas.predictors.accuracy`): a function `estimator(argument: str | None) -> Predictor`. The predictor
says in `unit` what its numbers are, and its `predict(arch)` gives an Estimate; higher is better.

Anything else that maps an architecture to a number plugs in as `module:function`: a function
`f(arch: ArchSpec) -> float | Estimate`, in percent unless it has an attribute `unit`. A float is taken
as exact; give an Estimate with a `std` where it is not, because a search maximises `value - std`.

A predictor or a function that answers within about a millisecond says so with `cheap = True`. A search
then asks it about hundreds of networks at a time, instead of thinking about each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from hwnas import plugins
from hwnas.errors import UsageError
from hwnas.estimate import Estimate, Predictor, is_cheap
from hwnas.foreign import called
from hwnas.space.arch import ArchSpec

__all__ = ["AccuracyFunction", "FunctionPredictor", "load_accuracy", "names_function"]

AccuracyFunction = Callable[[ArchSpec], "float | Estimate"]

FOLDER = "predictors/accuracy"
MOST = 1e12
"""Beyond which a number is a mistake in whatever unit."""
NUMBERS = (int, float, np.integer, np.floating)


@dataclass(frozen=True, slots=True)
class FunctionPredictor:
    """A user's function as a predictor: what it returns is checked, what it raises is explained."""

    function: AccuracyFunction
    name: str
    """What errors call it: `module:function`."""
    unit: str = "%"
    cheap: bool = False
    """Whether it answers within about a millisecond; see `hwnas.estimate.is_cheap`."""
    limit_s: float | None = None
    """Seconds that a call may take; None for any."""

    def predict(self, arch: ArchSpec) -> Estimate:
        """What the function says of the network.

        Raises UsageError, which names the function and the network's id, when the function fails or
        gives anything but a finite number or an Estimate.
        """
        answer: object = called(
            f"the accuracy function '{self.name}' failed on network {arch.id}",
            self.function,
            arch,
            limit_s=self.limit_s,
        )
        if isinstance(answer, Estimate):
            estimate = answer if answer.unit else replace(answer, unit=self.unit)
        elif isinstance(answer, NUMBERS) and not isinstance(answer, bool) and math.isfinite(answer):
            estimate = Estimate(float(answer), unit=self.unit)
        else:
            raise UsageError(
                f"an accuracy function must return a finite number or an Estimate, got {answer!r} from "
                f"'{self.name}' for network {arch.id}"
            )
        if problem := _implausible(estimate, self.unit):
            raise UsageError(f"{problem} from '{self.name}' for network {arch.id}")
        return estimate


def load_accuracy(
    reference: str | AccuracyFunction | Predictor, *, limit_s: float | None = None
) -> Predictor:
    """The predictor that a command line or a script names.

    `published` is the plug-in of that name; `supernet:RUN` hands `RUN` to the plug-in `supernet`;
    `module:function` is a function of the user's, searched in the current folder too. A plug-in's
    name wins over a module's. A function is wrapped, a predictor returned as it is. `limit_s` bounds each
    call of a function, in seconds.

    Raises UsageError for an unknown name, with the nearest known one, or a module without the function.
    """
    if isinstance(reference, str):
        name, separator, argument = reference.partition(":")
        if not names_function(reference):
            made: Predictor = plugins.load(FOLDER, name).estimator(argument if separator else None)
            return made
        return _wrapped(plugins.load_callable(reference), reference, limit_s)
    if hasattr(reference, "predict"):
        return cast(Predictor, reference)
    if callable(reference):
        named = reference if hasattr(reference, "__qualname__") else type(reference)
        return _wrapped(reference, f"{named.__module__}:{named.__qualname__}", limit_s)
    raise UsageError(
        "an accuracy estimator must be a name, a function of an architecture or a predictor, "
        f"got {reference!r}"
    )


def names_function(reference: str) -> bool:
    """Whether it is `module:function` rather than an estimator's name with its argument."""
    name, separator, _ = reference.partition(":")
    return bool(separator) and name not in plugins.names(FOLDER)


def _implausible(estimate: Estimate, unit: str) -> str:
    """What is wrong with an estimate of this unit that a user's function returned; empty where nothing is."""
    numbers = [one for one in (estimate.value, estimate.low, estimate.high) if one is not None]
    if estimate.unit != unit:
        return f"an accuracy function must keep to its unit '{unit}', got '{estimate.unit}'"
    if not all(isinstance(one, NUMBERS) and abs(one) <= MOST for one in (*numbers, estimate.std)):
        return f"an estimate must hold finite numbers of at most {MOST:g}, got {estimate}"
    if sorted(numbers, key=float) != [
        one for one in (estimate.low, estimate.value, estimate.high) if one is not None
    ]:
        return f"an estimate must be in order low, value, high, got {estimate}"
    if unit == "%" and not (0 <= estimate.value <= 100 and estimate.std <= 100):
        return f"an accuracy in percent must be from 0 to 100, got {estimate.value:g} ± {estimate.std:g}"
    return ""


def _wrapped(function: AccuracyFunction, name: str, limit_s: float | None) -> FunctionPredictor:
    return FunctionPredictor(
        function,
        name,
        unit=str(getattr(function, "unit", "%")),
        cheap=is_cheap(function),
        limit_s=limit_s,
    )
