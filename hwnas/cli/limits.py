"""How a user writes the sizes that a network may have: `6M`, `500k`, `20MB`, `16MiB`."""

from __future__ import annotations

import math
import re

from hwnas.errors import UsageError

__all__ = ["parse_limits"]

_COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}


def parse_limits(*, params: str | None, macs: str | None, memory: str | None) -> dict[str, float]:
    """The limits that were given, by quantity; memory in bytes.

    Raises UsageError, which names the flag, for what is not finite and positive or has a wrong unit.
    """
    given = {"params": params, "macs": macs, "memory": memory}
    return {name: _number(name, text) for name, text in given.items() if text is not None}


def _number(name: str, text: str) -> float:
    units, example = (_BYTES, "20MB") if name == "memory" else (_COUNTS, "6M")
    match = re.fullmatch(r"\s*([0-9.]+(?:e[-+]?[0-9]+)?)\s*([a-z]*)\s*", text, re.I)
    try:
        value = float(match[1]) * units[match[2].lower()] if match else math.nan
    except (KeyError, ValueError):
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(
            f"--max-{name} must be a positive number with a unit of {', '.join(filter(None, units))}, such "
            f"as {example}; got '{text}'"
        )
    return value
