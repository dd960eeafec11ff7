"""What a board says, checked field by field before anything is made of it: a board may be broken, or lie."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwnas.board.agent import VERSION
from hwnas.board.timing import median
from hwnas.errors import BoardError
from hwnas.predictors.latency.measurements import MOST_CPU_SHARE, MOST_MS
from hwnas.text import plain

__all__ = ["HOLD", "READY", "SURVEY", "Fields", "checked", "checked_hello", "checked_times", "clock_time"]

MOST_TEXT = 2000
"""Characters of a text."""
MOST_ITEMS = 1_000_000
MEDIAN_OFF = 1e-3
"""By how much, relative, a median may differ from that of the samples, which are rounded to ns."""

_MOST = 1e300
"""What is not below it is infinite, not a number, or a whole number that no float holds."""
_TEXT = (str, type(None))
_NUMBER = (int, float, type(None))
_RUNTIME = {"version": _TEXT, "provider": _TEXT, "providers": [str], "missing": _TEXT}
_ENVIRONMENT: dict[str, Any] = {"board": _TEXT, "cpu": _TEXT}
_HELLO: dict[str, Any] = {"agent": int, "environment": _ENVIRONMENT, "runtime": _RUNTIME}
READY: Mapping[str, Any] = {"python": str}
HOLD: Mapping[str, Any] = {"held": (dict, type(None)), "lease": str}
SURVEY: Mapping[str, Any] = {
    "environment": {
        **_ENVIRONMENT,
        "cores": _NUMBER,
        "governor": _TEXT,
        "temperature_c": _NUMBER,
        "throttled_bits": (int, type(None)),
        "load": _NUMBER,
    },
    **dict.fromkeys(("system", "machine", "python", "cache"), str),
    **dict.fromkeys(("venv", "writable", "gpu"), bool),
    "free_mib": int,
    "available_mib": (int, type(None)),
    "held": (dict, type(None)),
    "chosen": _TEXT,
    "packages": [str],
    "runtimes": [{**_RUNTIME, "python": str}],
}
"""The shape of answers: a type or several, a list of one shape, a mapping of shapes; more keys are taken."""


def checked(answer: Any, shape: Any, *, who: str) -> Any:
    """The answer, which has that shape, its texts without control characters.

    Raises BoardError with the field where it has not, and for numbers that are not finite.
    """
    said = f"the answer of {who} is damaged"
    try:
        return _checked(answer, shape, said, "")
    except RecursionError:
        raise BoardError(f"{said}: nested too deeply") from None


def checked_hello(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer to `hello`, of an agent of this version. Raises BoardError."""
    if "error" in answer:
        return {"error": plain(str(answer["error"]), most=MOST_TEXT)}
    if type(answer.get("agent")) is int and answer["agent"] != VERSION:
        raise BoardError(
            f"the agent on the board speaks version {answer['agent']}, this hwnas version {VERSION}: remove "
            "~/.cache/hwnas on the board, and start again"
        )
    found: dict[str, Any] = checked(answer, _HELLO, who="the board")
    return found


def checked_times(answer: dict[str, Any], *, beside: bool) -> dict[str, Any]:
    """The answer to `measure`: positive, finite times, and a median that is that of its samples.

    Raises BoardError with the field.
    """
    fields = Fields(answer, "a cell")
    for name in ("median_ms", "low_ms", "high_ms", "p95_ms", *(("reference_ms",) if beside else ())):
        if fields.number(name, above_0=True) > MOST_MS:
            raise fields.error(name, f"must be at most {MOST_MS:g}, got {answer[name]!r}")
    lists = ("samples_ns", "warmup_ns", *(("reference_ns", "cold_ns") if beside else ()))
    values = {name: fields.numbers(name) for name in lists}
    if fields.number("cpu_share") > MOST_CPU_SHARE:
        raise fields.error("cpu_share", f"must be at most {MOST_CPU_SHARE:g}, got {answer['cpu_share']!r}")
    if fields.number("runs_per_repeat", above_0=True) != int(answer["runs_per_repeat"]):
        raise fields.error("runs_per_repeat", f"must be whole, got {answer['runs_per_repeat']!r}")
    pairs = {"median_ms": "samples_ns", **({"reference_ms": "reference_ns"} if beside else {})}
    for name, samples in pairs.items():
        if not values[samples]:
            raise fields.error(samples, "is empty")
        of_samples_ms = median(values[samples]) / 1e6
        if abs(answer[name] - of_samples_ms) > MEDIAN_OFF * of_samples_ms + 1e-6:
            raise fields.error(name, f"is {answer[name]:g}, the median of {samples} {of_samples_ms:g}")
    if beside:
        fields.number("reach")
    if "energy_mj" in answer:
        fields.number("energy_mj")
        answer = {**answer, "energy_meter": plain(str(fields.value("energy_meter")), most=MOST_TEXT)}
    throttled = [plain(str(word), most=MOST_TEXT) for word in fields.items("throttled")]
    return {**answer, "throttled": throttled, "steady": bool(fields.value("steady"))}


def clock_time(since_s: Any) -> str:
    """`14:05` for seconds since 1970, `an unknown time` for anything else."""
    try:
        return time.strftime("%H:%M", time.localtime(float(since_s)))
    except (TypeError, ValueError, OverflowError, OSError):
        return "an unknown time"


@dataclass(frozen=True, slots=True)
class Fields:
    """Fields of the answer for one cell."""

    data: Mapping[str, Any]
    cell: str

    def value(self, name: str) -> Any:
        if name not in self.data:
            raise self.error(name, "is missing")
        return self.data[name]

    def number(self, name: str, *, above_0: bool = False) -> float:
        return self._number(name, self.value(name), above_0=above_0)

    def numbers(self, name: str) -> tuple[float, ...]:
        return tuple(self._number(name, value) for value in self.items(name))

    def items(self, name: str) -> list[Any]:
        value = self.value(name)
        if not isinstance(value, list):
            raise self.error(name, f"must be a list, got {_shown(value)}")
        return value

    def error(self, name: str, what: str) -> BoardError:
        return BoardError(
            f"the board's answer for {self.cell} is damaged: {name} {what}. Start again; if it stays so, "
            "install hwnas on the board anew"
        )

    def _number(self, name: str, value: Any, *, above_0: bool = False) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _MOST:
            raise self.error(name, f"must be a finite number, got {_shown(value)}")
        if value < 0 or (above_0 and value == 0):
            raise self.error(name, f"must be {'above' if above_0 else 'at least'} 0, got {value!r}")
        return value


def _checked(value: Any, shape: Any, said: str, at: str) -> Any:
    if isinstance(shape, Mapping):
        if not isinstance(value, dict):
            raise _wrong(said, at, "a mapping", value)
        if missing := [key for key in shape if key not in value]:
            raise BoardError(f"{said}: {at}{missing[0]} is missing")
        return {
            plain(str(key), most=MOST_TEXT): _checked(one, shape.get(key, object), said, f"{at}{key}.")
            for key, one in value.items()
        }
    if isinstance(shape, list):
        if not isinstance(value, list) or len(value) > MOST_ITEMS:
            raise _wrong(said, at, "a list", value)
        return [_checked(one, shape[0], said, f"{at}{number}.") for number, one in enumerate(value)]
    kinds = shape if isinstance(shape, tuple) else (shape,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and not {bool, object} & set(kinds)):
        raise _wrong(said, at, " or ".join(kind.__name__ for kind in kinds), value)
    if isinstance(value, int | float) and not abs(value) < _MOST:
        raise _wrong(said, at, "a finite number", value)
    if isinstance(value, str):
        return plain(value, most=MOST_TEXT)
    if isinstance(value, dict):
        return _checked(value, {}, said, at)
    return _checked(value, [object], said, at) if isinstance(value, list) else value


def _wrong(said: str, at: str, wanted: str, value: Any) -> BoardError:
    return BoardError(f"{said}: {at.rstrip('.') or 'it'} must be {wanted}, got {_shown(value)}")


def _shown(value: Any) -> str:
    return plain(repr(value), most=60)
