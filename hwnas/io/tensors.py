"""Sealed files: tensors and a JSON document in one safetensors file, with a checksum over all of it.

Any tool of that format opens one: the document is in its header. No pickle is written or read. The
header also holds the SHA-256 of the whole file, taken with 64 zeros in its own place, so that a flipped
bit anywhere is found: safetensors by itself loads one silently.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas.errors import FileFormatError
from hwnas.io.files import read_bytes
from hwnas.io.json import strict

if TYPE_CHECKING:
    import torch

__all__ = ["Tensors", "below", "read_sealed", "sealed"]

MAX_FILE_BYTES = 64 * 1024**3
MAX_HEADER_BYTES = 64 * 1024 * 1024
_NO_DIGEST = "0" * 64
_PICKLES = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")

Tensors = dict[str, "torch.Tensor"]


def sealed(tensors: Mapping[str, torch.Tensor], document: Mapping[str, Any]) -> bytes:
    """The bytes of a file with these tensors and this document, which has a `kind` and a `format`."""
    from safetensors.torch import save

    metadata = {"hwnas": json.dumps(document), "sha256": _NO_DIGEST}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = bytearray(save(plain, metadata))
    place = _digest_place(content)
    content[place : place + 64] = hashlib.sha256(content).hexdigest().encode()
    return bytes(content)


def read_sealed(path: Path, *, kind: str, version: int) -> tuple[dict[str, Any], Tensors]:
    """The document and the tensors of a file, on the CPU, once its checksum is found right.

    Raises FileFormatError when the file is damaged, a pickle, foreign, of another kind or version.
    """
    content = read_bytes(path, max_bytes=MAX_FILE_BYTES)
    document = _verified_document(content, path)
    if document.get("kind") != kind:
        raise FileFormatError(
            f"{path}: must be a file of the kind '{kind}', got {document.get('kind')!r:.80}"
        )
    if document["format"] != version:
        raise FileFormatError(
            f"{path}: this hwnas reads format {version} of a {kind}, got {document['format']!r:.80}: "
            "upgrade hwnas"
        )
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return document, load(content)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise FileFormatError(f"{path}: not a whole safetensors file: {error}") from None


def below(tensors: Mapping[str, torch.Tensor], prefix: str) -> Tensors:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _verified_document(content: bytes, path: Path) -> dict[str, Any]:
    if content[:2] in _PICKLES:
        raise FileFormatError(
            f"{path}: this is a pickle (torch.save), which can run any code when loaded, so it is not read: "
            "convert it to safetensors where you trust it"
        )
    header_bytes = struct.unpack("<Q", content[:8])[0] if len(content) >= 8 else 0
    if not 2 <= header_bytes <= min(MAX_HEADER_BYTES, len(content) - 8) or content[8:9] != b"{":
        raise FileFormatError(f"{path}: not a safetensors file, or cut off: {len(content)} bytes")
    place = _digest_place(content)
    if place < 0:
        raise FileFormatError(
            f"{path}: damaged, or not a checkpoint of hwnas: there is no checksum in its header"
        )
    zeroed = bytearray(content)
    zeroed[place : place + 64] = _NO_DIGEST.encode()
    if hashlib.sha256(zeroed).hexdigest().encode() != content[place : place + 64]:
        raise FileFormatError(f"{path}: the checksum does not match: the file is damaged or cut off")
    try:
        document = dict(strict(strict(content[8 : 8 + header_bytes])["__metadata__"]["hwnas"]))
        document["format"]
    except (ValueError, KeyError, TypeError):
        raise FileFormatError(f"{path}: not a checkpoint of hwnas") from None
    return document


def _digest_place(content: bytes | bytearray) -> int:
    """Where the 64 digits of the digest stand, or -1."""
    key = b'"sha256":"'
    end = 8 + struct.unpack("<Q", content[:8])[0]
    place = content.find(key, 8, end)
    return place + len(key) if place >= 0 else -1
