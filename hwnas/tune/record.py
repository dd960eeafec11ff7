"""contest.json: which networks are finished or stopped, so that a resumed run leaves them alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, cast, get_args

from hwnas.errors import FileFormatError, UsageError
from hwnas.io import json as json_io
from hwnas.io.atomic import write_whole

__all__ = ["FALLEN_BEHIND", "RECORD", "State", "read_states", "write_states"]

RECORD = "contest.json"
SCHEMA = 2  # 1: the first one; 2: has a checksum
FALLEN_BEHIND: Final = "fallen behind"

State = Literal["open", "fallen behind", "finished"]
"""`open`: still to be trained on, or failed."""


def read_states(folder: Path) -> dict[str, State]:
    """The state of each network by name; empty when the folder holds no config.

    Raises FileFormatError for a file that is damaged or of a newer hwnas.
    """
    file = folder / RECORD
    if not file.exists():
        return {}
    try:
        document = json_io.read(file)
        schema, states = document["schema"], dict(document["states"])
        if type(schema) is not int or schema < 1:
            raise ValueError(schema)
        if schema <= SCHEMA:
            json_io.require_checksum(document, has_one=schema > 1)
    except (FileFormatError, ValueError, KeyError, TypeError):
        raise FileFormatError(f"{file}: not a record of trainings; delete it to start again") from None
    if schema > SCHEMA or not all(state in get_args(State) for state in states.values()):
        raise FileFormatError(f"{file}: of another version of hwnas (schema {schema}): upgrade to read it")
    return cast(dict[str, State], states)


def write_states(folder: Path, states: Mapping[str, State]) -> None:
    """Replaces the record; raises UsageError when the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / RECORD, json_io.sealed({"schema": SCHEMA, "states": dict(states)}))
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error.strerror}: choose another folder") from None
