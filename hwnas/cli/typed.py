"""as_typed(text): commands in messages, written so that the user can type them here."""

from __future__ import annotations

import re

from hwnas.cli.help import THEMES
from hwnas.shell import program

__all__ = ["as_typed"]

_VERBS = "|".join(verb for verbs in THEMES.values() for verb in verbs)
_COMMAND = re.compile(rf"(?<![\w./\[-])hwnas(?= (?:{_VERBS})\b)")
"""`hwnas` where a verb follows."""


def as_typed(text: str) -> str:
    """The text, in which each `hwnas VERB` names the program by its path where the shell lacks it."""
    if "hwnas " not in text or (name := program()) == "hwnas":
        return text
    return _COMMAND.sub(lambda _: name, text)
