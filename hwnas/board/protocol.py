"""Frames between host and agent: a JSON header and bytes, found again in any noise around them.

A frame is MARK, two big-endian 32-bit lengths, a CRC-32 of what follows, the header, the payload.
What a login shell prints before or between frames is skipped.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any, BinaryIO

__all__ = ["MARK", "ProtocolError", "read_frame", "write_frame"]

MARK = b"\x00HWNAS1\n"
_SIZES = struct.Struct(">III")
MAX_HEADER_BYTES = 64 * 1024 * 1024
MAX_PAYLOAD_BYTES = 1024 * 1024 * 1024


class ProtocolError(Exception):
    """A frame is torn, too large or does not match its checksum."""


def write_frame(stream: BinaryIO, header: dict[str, Any], payload: bytes = b"") -> None:
    """Writes one frame and flushes it."""
    head = json.dumps(header, separators=(",", ":")).encode()
    crc = zlib.crc32(payload, zlib.crc32(head))
    stream.write(MARK + _SIZES.pack(len(head), len(payload), crc) + head)
    stream.write(payload)
    stream.flush()


def read_frame(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """The next frame, or None when the stream ends before one begins.

    Raises ProtocolError when it ends inside a frame, or the frame is damaged.
    """
    seen = b""
    while seen != MARK:
        byte = stream.read(1)
        if not byte:
            return None
        seen = (seen + byte)[-len(MARK) :]
    head_bytes, payload_bytes, crc = _SIZES.unpack(_exactly(stream, _SIZES.size))
    if head_bytes > MAX_HEADER_BYTES or payload_bytes > MAX_PAYLOAD_BYTES:
        raise ProtocolError("a frame is larger than the protocol allows")
    head = _exactly(stream, head_bytes)
    payload = _exactly(stream, payload_bytes)
    if zlib.crc32(payload, zlib.crc32(head)) != crc:
        raise ProtocolError("a frame does not match its checksum")
    header = json.loads(head)
    if not isinstance(header, dict):
        raise ProtocolError("a frame's header must be an object")
    return header, payload


def _exactly(stream: BinaryIO, count: int) -> bytes:
    parts = []
    while count:
        part = stream.read(count)
        if not part:
            raise ProtocolError("the stream ended inside a frame")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
