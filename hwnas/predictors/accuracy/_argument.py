"""The argument of an estimator's reference: `DATA,side=32,images=64` -> what it names, and options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hwnas.errors import UsageError, did_you_mean

__all__ = ["parsed"]


def parsed(estimator: str, argument: str | None, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """What stands before the first comma ("" without an argument), and all options.

    `options` holds each option's default, whose type says what it takes: a whole number (at least 1),
    or a text; an option with default None is a whole number that need not be given. Raises UsageError
    for an option that is unknown, given twice or of the wrong type.
    """
    subject, *given = (argument or "").split(",")
    values = dict(options)
    seen: set[str] = set()
    for item in given:
        name, sign, text = item.partition("=")
        if not sign or name not in options:
            known = ", ".join(f"{option}=..." for option in options)
            raise UsageError(
                f"the options of '{estimator}' are {known}; got '{item}'.{did_you_mean(name, options)}"
            )
        if name in seen:
            raise UsageError(f"'{estimator}' takes each option once, got {name} twice")
        seen.add(name)
        if isinstance(options[name], str):
            values[name] = text
        elif text.isdecimal() and int(text) >= 1:
            values[name] = int(text)
        else:
            raise UsageError(f"'{estimator}': {name} must be a whole number of at least 1, got '{text}'")
    return subject, values
