"""open_images: the images of a folder, an archive, shards, or a set that torchvision knows."""

from __future__ import annotations

from pathlib import Path

from hwnas.data.folders import open_files
from hwnas.data.images import Images
from hwnas.data.named_sets import open_named
from hwnas.paths import user_path

__all__ = ["open_images"]


def open_images(path: Path | str) -> Images:
    """The index of the data set at `path`: a folder, a tar, a folder of shards, or NAME:PATH.

    An index pass lists everything; after it, any image is read by itself. Raises UsageError when
    nothing is there, the layout is another, or a class folder has no images; FileFormatError when an
    archive is corrupt.
    """
    named = open_named(str(path))
    return open_files(user_path(path)) if named is None else named
