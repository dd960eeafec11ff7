"""Times and rates as people write them: '20ms', '0.02s', '40000/s'."""

from __future__ import annotations

import math
import re

from hwnas.errors import UsageError

__all__ = ["is_rate", "parse_ms", "parse_throughput"]

_MS_PER_UNIT = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
_TIME = re.compile(r"\s*([-+]?(?:[0-9.]+(?:e[-+]?[0-9]+)?|nan|inf|infinity))\s*([^\s0-9.]*)\s*", re.I)
_RATE = re.compile(r"\s*([0-9.]+(?:e[+]?[0-9]+)?)\s*(k?)\s*/\s*s\s*", re.I)


def parse_ms(time: str | float) -> float:
    """Milliseconds of a time: a number of milliseconds, or a text with a unit (us, ms or s).

    >>> parse_ms("20ms"), parse_ms("0.02s"), parse_ms("800us"), parse_ms(20)
    (20.0, 20.0, 0.8, 20.0)

    Raises UsageError for a text without a unit or with an unknown one, and for a number that is not
    finite and positive.
    """
    rule = "a time is a positive number with a unit (us, ms or s), e.g. 20ms"
    if isinstance(time, int | float) and not isinstance(time, bool):
        if not math.isfinite(time) or time <= 0:
            raise UsageError(f"invalid time {time!r}: {rule}, or a number of milliseconds")
        return float(time)
    if not isinstance(time, str):
        raise UsageError(f"invalid time {time!r}: {rule}, or a number of milliseconds")
    match = _TIME.fullmatch(time)
    if match is None:
        raise UsageError(f"invalid time '{time}': {rule}")
    number, unit = match.groups()
    try:
        value = float(number)
    except ValueError:
        raise UsageError(f"invalid time '{time}': {rule}") from None
    if not unit:
        raise UsageError(f"'{time}' has no unit: did you mean {time.strip()}ms? {rule.capitalize()}")
    if unit not in _MS_PER_UNIT:
        raise UsageError(f"'{time}' has the unknown unit '{unit}': {rule}")
    result_ms = value * _MS_PER_UNIT[unit]
    if not math.isfinite(result_ms) or result_ms <= 0:
        raise UsageError(f"invalid time '{time}': {rule}")
    return result_ms


def parse_throughput(rate: str) -> float:
    """Images per second of a text such as '40000/s' or '40k/s'.

    >>> parse_throughput("40k/s")
    40000.0

    Raises UsageError for anything else.
    """
    match = _RATE.fullmatch(rate)
    try:
        value = float(match[1]) * (1000 if match[2] else 1) if match else math.nan
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(
            f"invalid throughput '{rate}': it is a positive number of images per second, e.g. 40000/s"
        )
    return value


def is_rate(text: str) -> bool:
    """Whether a text is a throughput ('40000/s') and not a time."""
    return _RATE.fullmatch(text) is not None
