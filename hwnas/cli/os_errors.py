"""What the operating system refused, in words, with what to do about it, and the exit code."""

from __future__ import annotations

import errno
import os

__all__ = ["explained"]

_CODE_OTHER, _CODE_USAGE = 1, 2

_USAGE = {
    errno.EACCES: "change its permissions, or choose another place",
    errno.EPERM: "change its permissions, or choose another place",
    errno.EROFS: "it is on a read-only disk: choose another place",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path: a part of it is no folder",
    errno.EISDIR: "name a file in it",
    errno.EEXIST: "choose another name",
    errno.ENOTEMPTY: "choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "its links lead round in a circle: mend them",
}
"""What to do about each of `PLACE_ERRORS`."""

_OTHER = {
    errno.ENOSPC: "free some space, and run the same command again",
    errno.EDQUOT: "your quota is used up: free some space, and run the same command again",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "the system has too many open files: close some programs",
    errno.ENOMEM: "the system has no memory left: close some programs",
    errno.EAGAIN: "the system has no processes or memory left: close some programs, or raise ulimit -u",
    errno.ENOLCK: "the disk knows no locks, as some network drives: choose a local folder",
    errno.EBADF: "run it with an open standard output",
    errno.EIO: "the disk or the terminal has failed: look at it, and run the same command again",
}


def explained(error: OSError) -> tuple[str, int]:
    """(what to tell the user, exit code)."""
    from hwnas.io.files import PLACE_ERRORS

    place = "" if error.filename is None else f"{os.fsdecode(os.fspath(error.filename))}: "
    advice = _USAGE.get(error.errno or 0) or _OTHER.get(error.errno or 0)
    what = error.strerror or str(error) or type(error).__name__
    if not place:
        what = f"reading or writing failed: {what}"
    text = f"{place}{what}" + (f": {advice}" if advice else "")
    return text, _CODE_USAGE if error.errno in PLACE_ERRORS else _CODE_OTHER
