"""A memory limit that is too small is told before the work: libraries written in C do not fail well for it.

OpenBLAS, for one, asks for memory again and again, for minutes, where it gets none.
"""

from __future__ import annotations

import os
import sys

from hwnas.errors import HwnasError

__all__ = ["LEAST_MIB", "check_limit", "is_shortage"]

LEAST_MIB = 448
"""A search takes 330 MiB of address space with one thread for algebra."""
ROOMY_MIB = 16 * 1024
"""Below this limit there is one thread for algebra: each reserves its own memory, a core each."""
_WORDS = (
    "failed to map segment",
    "cannot allocate memory",
    "can't allocate memory",
    "can't start new thread",
    "out of memory",
    "not enough memory",
)


def check_limit() -> None:
    """Raises HwnasError where this process may have less address space than any verb needs (ulimit -v)."""
    if sys.platform == "win32":
        return
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return
    mib = limit // 2**20
    if mib < LEAST_MIB:
        raise HwnasError(
            f"the memory limit of this shell is too small: {mib} MiB (ulimit -v {limit // 1024}), at least "
            f"{LEAST_MIB} MiB are needed, and some GiB to train or export. Raise it: ulimit -v unlimited"
        )
    if mib < ROOMY_MIB:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def is_shortage(error: BaseException) -> bool:
    """Whether an error means that memory, or address space, is used up."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, ImportError | RuntimeError | SystemError) and any(
        words in str(error).lower() for words in _WORDS
    )
