"""What another image size, stem stride or number of classes makes of a network: its words and its name."""

from __future__ import annotations

import re

from hwnas.space.arch import ArchSpec

__all__ = ["changed_name", "renamed", "size_words"]

_SUFFIX = re.compile(
    r"(?P<base>.*?)"
    r"(?: with (?P<classes>\d+) classes)?"
    r"(?: at (?=\d+ px|stem stride)(?:(?P<resolution>\d+) px)?(?:(?:, )?stem stride (?P<stem_stride>\d+))?)?"
)


def size_words(arch: ArchSpec) -> str:
    """`64 px, stem stride 4`."""
    return f"{arch.resolution} px, stem stride {arch.stem.stride}"


def changed_name(
    name: str,
    *,
    resolution: int | None = None,
    stem_stride: int | None = None,
    classes: int | None = None,
) -> str:
    """The name of what becomes of `name` with the values given.

    What it was changed to before is in its name and is taken over:
    `a#1 at 64 px` with 96 px is `a#1 at 96 px`.
    """
    found = _SUFFIX.fullmatch(name)
    assert found is not None  # the base takes any text
    given = {"resolution": resolution, "stem_stride": stem_stride, "classes": classes}
    value = {key: found[key] if new is None else str(new) for key, new in given.items()}
    sizes = [
        *([f"{value['resolution']} px"] if value["resolution"] else []),
        *([f"stem stride {value['stem_stride']}"] if value["stem_stride"] else []),
    ]
    return (
        found["base"]
        + (f" with {value['classes']} classes" if value["classes"] else "")
        + (f" at {', '.join(sizes)}" if sizes else "")
    )


def renamed(name: str, before: ArchSpec, after: ArchSpec) -> str:
    """The name of `after`, which was made from `before` of this name; the same name for the same network.

    An empty name stays empty.
    """
    if not name or before.id == after.id:
        return name
    return changed_name(
        name,
        resolution=after.resolution if after.resolution != before.resolution else None,
        stem_stride=after.stem.stride if after.stem.stride != before.stem.stride else None,
        classes=after.classes if after.classes != before.classes else None,
    )
