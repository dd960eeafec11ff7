"""Frames between host and agent: a JSON header and bytes, found again in any noise around them.

A frame is MARK, the lengths of header and payload, 1 or 0 for a payload that is deflated or is not, a
CRC-32 of these three and of what follows (all big-endian, 32 bits), the header, the payload. What a login
shell prints before or between frames is skipped.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any, BinaryIO

__all__ = ["MARK", "Deflated", "ProtocolError", "deflated", "read_frame", "write_frame"]

# 1: payloads as they are. 2: they may be deflated. 3: the checksum is over the lengths, too.
MARK = b"\x00HWNAS3\n"
_SIZES = struct.Struct(">III")
_CRC = struct.Struct(">I")
_PART_BYTES = 1024 * 1024
_LEVEL = 1
"""The fastest: what repeats is found all the same."""
MAX_HEADER_BYTES = 64 * 1024 * 1024
MAX_PAYLOAD_BYTES = 1024 * 1024 * 1024
MAX_NOISE_BYTES = 256 * 1024
"""What may come before a frame: a login shell's greeting is far shorter."""


class ProtocolError(Exception):
    """A frame is torn, too large or does not match its checksum."""


class Deflated(bytes):
    """A payload that travels deflated, and is inflated where it is read."""


def deflated(payload: bytes) -> Deflated:
    """The payload in less room."""
    return Deflated(zlib.compress(payload, _LEVEL))


def write_frame(stream: BinaryIO, header: dict[str, Any], payload: bytes = b"") -> None:
    """Writes one frame and flushes it; a `Deflated` payload is marked as such."""
    head = json.dumps(header, separators=(",", ":")).encode()
    sizes = _SIZES.pack(len(head), len(payload), isinstance(payload, Deflated))
    crc = _CRC.pack(zlib.crc32(payload, zlib.crc32(sizes + head)))
    stream.write(MARK + sizes + crc + head)
    stream.write(payload)
    stream.flush()


def read_frame(stream: BinaryIO, *, most_bytes: int | None = None) -> tuple[dict[str, Any], bytes] | None:
    """The next frame, its payload inflated, or None when the stream ends before one begins.

    Neither header nor payload may be longer than `most_bytes`, where it is given.

    Raises ProtocolError when it ends inside a frame, no frame begins, or the frame is damaged.
    """
    most_bytes = MAX_PAYLOAD_BYTES if most_bytes is None else most_bytes
    seen, noise = b"", 0
    while seen != MARK:
        byte = stream.read(1)
        if not byte:
            return None
        seen = (seen + byte)[-len(MARK) :]
        noise += 1
        if noise > MAX_NOISE_BYTES:
            raise ProtocolError(f"no frame within {MAX_NOISE_BYTES} bytes")
    sizes = _exactly(stream, _SIZES.size)
    head_bytes, payload_bytes, is_deflated = _SIZES.unpack(sizes)
    (crc,) = _CRC.unpack(_exactly(stream, _CRC.size))
    if head_bytes > min(MAX_HEADER_BYTES, most_bytes) or payload_bytes > most_bytes:
        raise ProtocolError("a frame is larger than the protocol allows")
    head = _exactly(stream, head_bytes)
    payload = _exactly(stream, payload_bytes)
    if zlib.crc32(payload, zlib.crc32(sizes + head)) != crc:
        raise ProtocolError("a frame does not match its checksum")
    try:
        header = json.loads(head)
    except (ValueError, RecursionError):
        raise ProtocolError("a frame's header is not JSON") from None
    if not isinstance(header, dict):
        raise ProtocolError("a frame's header must be an object")
    return header, _inflated(payload, most_bytes) if is_deflated else payload


def _inflated(payload: bytes, most_bytes: int) -> bytes:
    """Never more than a payload may be, whatever little was sent."""
    engine = zlib.decompressobj()
    try:
        whole = engine.decompress(payload, most_bytes)
    except zlib.error as error:
        raise ProtocolError(f"a frame's payload cannot be inflated: {error}") from None
    if engine.unconsumed_tail:
        raise ProtocolError("a frame is larger than the protocol allows")
    if not engine.eof:
        raise ProtocolError("a frame's compressed payload is incomplete")
    return whole


def _exactly(stream: BinaryIO, count: int) -> bytes:
    parts = []
    while count:
        part = stream.read(min(count, _PART_BYTES))  # memory for what comes, not for what was announced
        if not part:
            raise ProtocolError("the stream ended inside a frame")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
