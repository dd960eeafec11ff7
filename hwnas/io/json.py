"""Reading JSON that may be wrong or hostile: bounded, finite numbers only, one clear error."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from hwnas.errors import FileFormatError
from hwnas.io.files import read_bytes

__all__ = ["MAX_BYTES", "JsonError", "parse", "read", "strict"]

MAX_BYTES = 64 * 1024 * 1024


class JsonError(ValueError):
    """Why a text is not JSON, in one sentence."""


def strict(text: str | bytes) -> Any:
    """The plain data that a text holds. Raises JsonError for anything else.

    Differs from `json.loads`: NaN, infinity and numbers beyond a double are refused, and so is nesting
    that Python cannot follow.
    """
    try:
        return json.loads(text, parse_constant=_not_finite, parse_float=_finite)
    except JsonError:
        raise
    except UnicodeDecodeError:
        raise JsonError("not UTF-8 text") from None
    except RecursionError:
        raise JsonError("nested too deeply") from None
    except ValueError as error:
        raise JsonError(str(error)) from None


def parse(text: str | bytes, *, source: str) -> Any:
    """As `strict`, but raises FileFormatError, which names `source`."""
    try:
        return strict(text)
    except JsonError as error:
        raise FileFormatError(f"{source}: not valid JSON: {error}") from None


def read(path: Path, *, max_bytes: int = MAX_BYTES) -> Any:
    """The plain data of a file; raises FileFormatError as `parse` does, and when it cannot be read."""
    return parse(read_bytes(path, max_bytes=max_bytes), source=str(path))


def _not_finite(text: str) -> NoReturn:
    raise JsonError(f"numbers must be finite, got {text}")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise JsonError(f"numbers must be finite, got {text[:20]}")
    return value
