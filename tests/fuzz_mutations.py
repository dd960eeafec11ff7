"""Damage for readers to survive: bytes of a file, and values inside a document. All from one `Random`."""

from __future__ import annotations

import io
import json
import random
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

__all__ = ["VALUES", "changed_document", "changed_json_in_zip", "changed_tar", "damaged"]

TOKENS = (
    b"? [a]\n: 1\n", b"!!timestamp ", b"!!binary ", b"<<: ", b"*a", b"&a ", b"{", b"[", b"]", b"}", b"1e999",
    b"9" * 400, b"-1", b"~", b"\xff", b"\t", b"- ", b".nan", b"NaN", b"null", b"\x00", b"\n", b'"', b":",
    b",",     b"\\ud800", b"\x1b[2J", b"[" * 200, b"\xef\xbb\xbf", b"true", b"\x00\x00\x00\xff" * 4,
)  # fmt: skip

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 0.5, -0.0, 1e308, -1e308, 1e-320, 255, 65536, 2**31, 2**63, 2**64 + 1,
    10**400, -(10**400), float("nan"), float("inf"), "", "x", "0", "../..", "/etc/passwd", "\x1b[2J", "\x00",
    "\ud800", "ä", "nan", "1e999", "x" * 5000, [], [[]], [None], {}, {"x": 1}, [0] * 300, [1, "x"],
)  # fmt: skip
"""What nobody expects in a field."""


def damaged(whole: bytes, rng: random.Random) -> bytes:
    """The bytes of a file with one to three faults: bits, gaps, doubles, tokens, a missing end."""
    content = bytearray(whole)
    for _ in range(rng.randrange(1, 4)):
        content = content or bytearray(b"x")
        place = rng.randrange(len(content))
        match rng.randrange(8):
            case 0 | 1:
                content[place] ^= 1 << rng.randrange(8)
            case 2:
                content[place] = rng.randrange(256)
            case 3:
                del content[place : place + rng.randrange(1, 40)]
            case 4:
                content[place:place] = rng.choice(TOKENS)
            case 5:
                content[place:place] = content[place : place + rng.randrange(1, 200)]
            case 6:
                lines = bytes(content).splitlines(keepends=True)
                one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
                lines[one] = lines[other]
                content = bytearray(b"".join(lines))
            case 7:
                if rng.random() < 0.3:
                    del content[place:]
                else:
                    content[place : place + 4] = rng.randbytes(4)
    return bytes(content)


def changed_document(document: Any, rng: random.Random) -> Any:
    """A copy of plain data in which one or two values are others, gone, doubled or renamed."""
    copy = json.loads(json.dumps(document))
    for _ in range(rng.choice((1, 1, 1, 2))):
        places = list(_places(copy))
        if not places:
            return rng.choice(VALUES)
        holder, key = rng.choice(places)
        match rng.randrange(8):
            case 0 | 1 | 2 | 3:
                holder[key] = rng.choice(VALUES)
            case 4:
                del holder[key]
            case 5:
                other_holder, other = rng.choice(places)
                holder[key] = json.loads(json.dumps(other_holder[other]))
            case 6:
                if isinstance(holder, list):
                    holder.insert(key, json.loads(json.dumps(holder[key])))
                else:
                    holder[rng.choice(("", "x", "format", str(key) + "s"))] = holder.pop(key)
            case 7:
                value = holder[key]
                if isinstance(value, bool) or not isinstance(value, int | float):
                    holder[key] = [value]
                else:
                    holder[key] = rng.choice((value + 1, -value, value * 1000, str(value), value / 2))
    return copy


def _places(data: Any) -> Any:
    """(container, key) of all values in plain data."""
    waiting = [data]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, dict | list):
            for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
                yield holder, key
                waiting.append(holder[key])


def changed_tar(whole: bytes, rng: random.Random) -> bytes:
    """A tar archive packed anew, with one or two odd members."""
    names = (
        "../x.jpg",
        "/x.jpg",
        "train/" + "a" * 300 + ".jpg",
        "train/a\x1b[2J/x.jpg",
        "",
        ".",
        "train//x.jpg",
        "train/a/../b.jpg",
        "train/\udcff/x.jpg",
        "train/a/x.jpg/y.jpg",
        "a\\b\\c.jpg",
        "0.cls",
        "0.jpg",
    )
    kinds = (
        tarfile.REGTYPE,
        tarfile.DIRTYPE,
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.FIFOTYPE,
        tarfile.GNUTYPE_SPARSE,
        b"Z",
    )
    stream = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(whole)) as old, tarfile.open(fileobj=stream, mode="w") as new:
        members = old.getmembers()
        odd = set(rng.sample(range(len(members)), min(len(members), rng.randrange(1, 3))))
        for place, member in enumerate(members):
            file = old.extractfile(member) if member.isreg() else None
            content = file.read() if file else b""
            if place in odd:
                match rng.randrange(4):
                    case 0:
                        member.name = rng.choice((*names, rng.choice(members).name))
                    case 1:
                        member.type = rng.choice(kinds)
                        member.linkname = rng.choice((*names, member.name, rng.choice(members).name))
                    case 2:
                        content = rng.choice((b"", b"\xff" * 9, b"a/b", b"3", content * 3))
                        member.size = len(content)
                    case 3:
                        member.size = rng.choice((0, len(content) + 512, 10**9, 8**11))
                        member.pax_headers = {"size": rng.choice(("x", "-1", "9" * 30))}
            new.addfile(member, io.BytesIO(content + b"\0" * 1024) if member.isreg() else None) if (
                member.size <= len(content) + 1024 or not member.isreg()
            ) else stream.write(member.tobuf(tarfile.GNU_FORMAT) + content)
    return stream.getvalue()


def changed_json_in_zip(
    whole: bytes, rng: random.Random, change: Callable[[bytes, random.Random], bytes]
) -> bytes:
    """A zip archive packed anew, with one member changed: JSON inside, others by their bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(stream, "w") as new:
        names = old.namelist()
        odd = rng.choice([name for name in names if name.endswith(".json")] * 2 + names)
        for name in names:
            content = old.read(name)
            if name == odd:
                content = change(content, rng)
            new.writestr(name, content)
    return stream.getvalue()
