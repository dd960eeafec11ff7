"""Reading JSON that may be wrong or hostile: bounded, finite numbers only, one clear error.

A document that is replaced as a whole has a checksum over its content: `sealed` and `require_checksum`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from hwnas.errors import FileFormatError
from hwnas.io.files import read_bytes

__all__ = ["MAX_BYTES", "JsonError", "checksum", "parse", "read", "require_checksum", "sealed", "strict"]

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


# --- documents with a checksum ----------------------------------------------------------------


def checksum(document: Mapping[str, Any]) -> str:
    """`sha256:` and the digest of plain data without its key `checksum`, however it is spaced and ordered."""
    content = {key: value for key, value in document.items() if key != "checksum"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def sealed(document: Mapping[str, Any]) -> str:
    """The text of a JSON file: the document with its checksum. Raises ValueError for what is not finite."""
    plain = json.loads(json.dumps(document, allow_nan=False))
    return json.dumps({**plain, "checksum": checksum(plain)}, indent=1) + "\n"


def require_checksum(document: Mapping[str, Any], *, has_one: bool) -> None:
    """Raises JsonError unless the checksum is that of the content.

    `has_one` is False for a version of before there were checksums: then there must be none.
    """
    if has_one and document.get("checksum") != checksum(document):
        raise JsonError("the checksum does not match the content: the file is damaged or was edited")
    if not has_one and "checksum" in document:
        raise JsonError("a checksum in a version that has none: the file is damaged or was edited")


# ----------------------------------------------------------------------------------------------


def _not_finite(text: str) -> NoReturn:
    raise JsonError(f"numbers must be finite, got {text}")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise JsonError(f"numbers must be finite, got {text[:20]}")
    return value
