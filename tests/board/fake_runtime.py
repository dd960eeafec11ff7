"""A runtime plug-in for the tests of the link: no package needed, and it fails as boards do.

The model is what happens: b"die" kills the agent as a kernel out of memory does, b"die:FILE" only
once, b"slow" takes long, b"slow:FILE" only once, b"memory" finds none left, b"sum:CRC:..." fails where
the CRC is not that of the rest; anything else runs.
"""

from __future__ import annotations

import os
import signal
import time
import zlib
from pathlib import Path
from typing import Any

MODEL_FORMAT = "onnx"


def probe() -> dict[str, Any]:
    return {"version": "1.0", "provider": "cpu", "providers": ["cpu"], "missing": None}


def prepare(model: bytes, *, threads: int, batch: int, precision: str, provider: str = "cpu") -> Session:
    if provider != "cpu":
        raise RuntimeError(f"the fake runtime has no provider {provider}, only cpu")
    return Session(model)


class Session:
    def __init__(self, model: bytes) -> None:
        self._model = model

    def run(self) -> None:
        what, _, name = self._model.partition(b":")
        if what == b"die":
            file = Path(name.decode())
            if name and file.exists():
                return
            if name:
                file.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        elif what == b"slow":
            file = Path(name.decode())
            if name and file.exists():
                return
            if name:
                file.touch()
            time.sleep(60)
        elif what == b"memory":
            raise MemoryError("no memory left for the arena")
        elif what == b"sum":
            crc, _, rest = name.partition(b":")
            if zlib.crc32(rest) != int(crc):
                raise ValueError(f"{len(rest)} bytes arrived that are not those that were sent")
        else:
            time.sleep(0.001)

    def close(self) -> None:
        return
