"""The models of a plan's cells: each exported once, and kept as a file until the table is made.

Where the timing is done on this machine, all are exported before it, so that nothing disturbs it. For a
board they are exported while it measures, in the order in which it will ask for them, and kept deflated.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas.board import protocol
from hwnas.io.atomic import write_whole
from hwnas.measure.cells import REFERENCE_CELL
from hwnas.measure.plan import Plan

if TYPE_CHECKING:
    from hwnas.export.timing import Exporter

__all__ = ["Models"]


class Models:
    """`models(name)` is the model of an op (its key), a network (its label) or the reference network."""

    def __init__(
        self, plan: Plan, exporter: Exporter, batch: int, folder: Path, *, deflate: bool = False
    ) -> None:
        """Nothing is exported yet; what an interrupted build left in `folder` is used."""
        self._ops = {op.key: op for op in plan.ops}
        self._networks = dict(plan.networks + plan.watched) | {REFERENCE_CELL: plan.reference[1]}
        self._exporter, self._batch, self._folder, self._deflate = exporter, batch, folder, deflate
        self._coming: dict[str, Future[Path]] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def export(self, report: Callable[[int, int, str], None]) -> None:
        """Exports all now; `report` is told (done, of how many, which)."""
        names = self._names()
        for done, name in enumerate(names, start=1):
            self._file(name)
            report(done, len(names), name)
        os.sync()  # or the disk is still busy when timing begins

    @contextlib.contextmanager
    def exported_meanwhile(self, first: Iterable[str]) -> Iterator[None]:
        """Within it all are exported in a thread, the reference network and those in `first` before others.

        Who asks for a model waits for it, and gets the error where it cannot be exported.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="export") as thread:
            for name in dict.fromkeys([REFERENCE_CELL, *first, *self._names()]):
                self._coming[name] = thread.submit(self._file, name)
            try:
                yield
            finally:
                thread.shutdown(cancel_futures=True)
                self._coming.clear()

    def __call__(self, name: str) -> bytes:
        file = self._coming[name].result() if name in self._coming else self._file(name)
        return protocol.Deflated(file.read_bytes()) if self._deflate else file.read_bytes()

    def _names(self) -> list[str]:
        return [*self._ops, *self._networks]

    def _file(self, name: str) -> Path:
        kind = f"{self._batch} {'deflated' if self._deflate else 'plain'} {name}"
        path = self._folder / hashlib.sha256(kind.encode()).hexdigest()
        if not path.exists():
            if name in self._ops:
                model = self._exporter.op_model(self._ops[name], batch=self._batch)
            else:
                batch = 1 if name == REFERENCE_CELL else self._batch
                model = self._exporter.network_model(self._networks[name], batch=batch)
            write_whole(path, protocol.deflated(model) if self._deflate else model)
        return path
