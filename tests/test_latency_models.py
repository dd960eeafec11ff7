"""Models of a plan's cells: all before the first timing on this machine, beside the timings of a board."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from latency_fakes import FakeExporter, FakeLink, told
from test_latency_build import small_plan

from hwnas.board.protocol import Deflated
from hwnas.errors import UsageError
from hwnas.measure.build import build_table
from hwnas.measure.models import Models
from hwnas.predictors.latency import LatencyTable
from hwnas.space import ArchSpec, OpSpec


class Recording(FakeExporter):
    """Notes what it exports; `before(n)` is called before the n-th."""

    def __init__(self, before: Callable[[int], None] = lambda n: None) -> None:
        self.names: list[str] = []
        self._before = before

    def op_model(self, op: OpSpec, *, batch: int) -> bytes:
        self._note(op.key)
        return super().op_model(op, batch=batch)

    def network_model(self, arch: ArchSpec, *, batch: int) -> bytes:
        self._note(arch.id)
        return super().network_model(arch, batch=batch)

    def _note(self, name: str) -> None:
        self._before(len(self.names))
        self.names.append(name)


class Watched(FakeLink):
    """Calls `before` before each timing."""

    def __init__(self, before: Callable[[], None]) -> None:
        super().__init__()
        self._before = before

    def measure(self, model: bytes, **options: Any) -> dict[str, Any]:
        self._before()
        return super().measure(model, **options)


def build(
    exporter: FakeExporter, link: FakeLink, folder: Path, *, elsewhere: bool, resume: bool = False
) -> LatencyTable:
    return build_table(
        small_plan(),
        name="fake",
        runtime="fake",
        threads=1,
        batch=1,
        precision="fp32",
        exporter=exporter,
        start=link.start,
        samples=folder / "s",
        created="2026-11-21",
        resume=resume,
        elsewhere=elsewhere,
        sleep=lambda seconds: None,
    )


def exports_of_all() -> int:
    plan = small_plan()
    return len(plan.ops) + len(plan.networks) + 1  # the reference network


def test_on_this_machine_nothing_is_exported_once_timing_has_begun(tmp_path: Path) -> None:
    exporter = Recording()
    counts: set[int] = set()
    build(exporter, Watched(lambda: counts.add(len(exporter.names))), tmp_path, elsewhere=False)
    assert counts == {exports_of_all()}


def test_a_board_is_timed_as_soon_as_its_first_models_are_there(tmp_path: Path) -> None:
    timing_began = threading.Event()

    def wait(exported: int) -> None:
        if exported == 4:
            assert timing_began.wait(30), "everything was exported before the first timing"

    exporter = Recording(wait)
    build(exporter, Watched(timing_began.set), tmp_path, elsewhere=True)
    assert len(exporter.names) == len(set(exporter.names)) == exports_of_all()


def test_a_board_gets_the_same_table(tmp_path: Path) -> None:
    tables = []
    for elsewhere in (False, True):
        (tmp_path / str(elsewhere)).mkdir()
        tables.append(build(FakeExporter(), FakeLink(), tmp_path / str(elsewhere), elsewhere=elsewhere))
    assert tables[0].rows == tables[1].rows
    assert tables[0].digest == tables[1].digest


def test_what_cannot_be_exported_ends_the_build_where_it_is_asked_for(tmp_path: Path) -> None:
    def refuse(exported: int) -> None:
        if exported == 9:
            raise UsageError("no rule for this node")

    link = FakeLink()
    with pytest.raises(UsageError, match="no rule for this node"):
        build(Recording(refuse), link, tmp_path, elsewhere=True)
    assert link.timings == 8  # what was exported before, less the reference network, was timed
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("export")]
    table = build(FakeExporter(), link, tmp_path, elsewhere=True, resume=True)
    (tmp_path / "other").mkdir()
    assert table.rows == build(FakeExporter(), FakeLink(), tmp_path / "other", elsewhere=False).rows


def test_models_come_in_the_order_in_which_they_are_asked_for_and_are_kept_deflated(tmp_path: Path) -> None:
    plan, exporter = small_plan(), Recording()
    models = Models(plan, exporter, 1, tmp_path / "models", deflate=True)
    first = [plan.ops[5].key, plan.ops[2].key]
    with models.exported_meanwhile(first):
        last = models(plan.networks[-1][0])
    assert exporter.names[:3] == [plan.reference[1].id, *first]
    assert isinstance(last, Deflated)
    assert told(last) == told(FakeExporter().network_model(plan.networks[-1][1], batch=1))
    never = Recording(lambda exported: pytest.fail("exported twice"))
    again = Models(plan, never, 1, tmp_path / "models", deflate=True)
    assert again(first[0]) == models(first[0])


def test_a_build_that_ends_early_exports_no_more(tmp_path: Path) -> None:
    plan = small_plan()
    begun, go_on = threading.Event(), threading.Event()

    def wait(exported: int) -> None:
        if exported == 3:
            begun.set()
            assert go_on.wait(30)

    exporter = Recording(wait)
    models = Models(plan, exporter, 1, tmp_path / "models", deflate=True)
    with pytest.raises(KeyboardInterrupt), models.exported_meanwhile([]):
        assert begun.wait(30)
        threading.Timer(0.2, go_on.set).start()
        raise KeyboardInterrupt
    assert len(exporter.names) == 4  # the one in hand was finished
