"""A table from a few measured networks and known tables, on a board that takes what a formula says."""

from __future__ import annotations

import dataclasses
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from latency_fakes import FakeExporter, FakeLink, network_ms, small_space

from hwnas.cli.app import main
from hwnas.errors import MissingPackageError, UsageError
from hwnas.measure.plan import of_any_size, space_ops
from hwnas.measure.transfer_build import build_transferred, transfer_table
from hwnas.measure.transfer_candidates import Candidates, draw_candidates, plan_samples
from hwnas.predictors.latency import DeviceProfile, LatencyTable, Row, op_features
from hwnas.predictors.latency.table_content import Coefficients
from hwnas.space import OpSpec, SearchSpace, lower, preset, preset_names

OTHER_BOARD = (9e-7, 5e-7, 5e-6, 1e-7, 5e-8, 0.02)


def known_tables(space: SearchSpace) -> list[LatencyTable]:
    """One board known by rows, where convolutions cost otherwise, and one by coefficients."""

    def ms(op: OpSpec) -> float:
        return float(op_features(op) @ OTHER_BOARD) * (1.6 if op.kind == "reuse" else 1.0)

    profile = DeviceProfile(board="Other Board", runtime="onnxruntime")
    presets = [op for name in preset_names() for op in lower(preset(name))]
    rows = {op.key: Row(ms(op), ms(op), ms(op), ms(op)) for op in [*space_ops(space), *presets]}
    return [
        LatencyTable(name="by-rows", profile=profile, provenance="measured", rows=rows),
        LatencyTable(
            name="by-coefficients",
            profile=profile,
            provenance="estimated",
            coefficients=Coefficients((3e-7, 3e-7, 9e-6, 3e-7, 0.0, 0.01)),
        ),
    ]


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return small_space()


@pytest.fixture(scope="module")
def candidates(space: SearchSpace) -> Candidates:
    return draw_candidates(space, known_tables(space), seed=0)


@pytest.fixture(scope="module")
def transferred(space: SearchSpace, candidates: Candidates) -> LatencyTable:
    return transfer_table(
        candidates,
        {label: network_ms(arch) for label, arch in candidates.choose(20, 0)},
        name="new",
        profile=DeviceProfile(board="Fake Board", runtime="onnxruntime", runtime_version="1.0"),
        space=space,
        created="2026-11-21",
    )


def fresh_networks(space: SearchSpace, known: Candidates, count: int) -> list:  # type: ignore[type-arg]
    rng = random.Random("networks that no transfer saw")
    drawn = (of_any_size(space, rng) for _ in range(50 * count))
    return [arch for arch in drawn if f"random-{arch.id}" not in known.archs][:count]


def test_twenty_networks_tell_others_better_than_the_best_known_table(
    space: SearchSpace, candidates: Candidates, transferred: LatencyTable
) -> None:
    archs = fresh_networks(space, candidates, 60)
    truth = np.array([network_ms(arch) for arch in archs])

    def error(table: LatencyTable) -> float:
        predicted = np.array([table.predict(arch).value for arch in archs])
        return float(np.abs(predicted / predicted.mean() * truth.mean() / truth - 1).mean())

    predicted = np.array([transferred.predict(arch).value for arch in archs])
    assert np.abs(predicted / truth - 1).mean() < 0.03
    assert error(transferred) < 0.5 * min(error(table) for table in candidates.tables)


def test_intervals_hold_most_networks_that_nobody_measured(
    space: SearchSpace, candidates: Candidates, transferred: LatencyTable
) -> None:
    held = [
        transferred.predict(arch).low <= network_ms(arch) <= transferred.predict(arch).high
        for arch in fresh_networks(space, candidates, 60)
    ]
    assert np.mean(held) >= 0.85


def test_the_evidence_predicts_each_measured_network_without_itself(
    space: SearchSpace, candidates: Candidates, transferred: LatencyTable
) -> None:
    chosen = dict(candidates.choose(20, 0))
    assert {item.label for item in transferred.heldout.networks} == set(chosen)
    assert "without it" in transferred.heldout.method
    # One network that is ten times slower than it should be: a fit that saw it would come near it.
    odd, others = next(iter(chosen)), {label: network_ms(arch) for label, arch in chosen.items()}
    table = transfer_table(
        candidates, others | {odd: 10 * others[odd]}, name="odd", profile=transferred.profile, space=space,
        created="",
    )  # fmt: skip
    told = next(item for item in table.heldout.networks if item.label == odd)
    assert told.predicted_ms < 2 * others[odd]


def test_every_op_of_the_space_and_of_the_presets_has_a_row_that_is_called_filled(
    space: SearchSpace, transferred: LatencyTable
) -> None:
    assert not transferred.missing(space_ops(space))
    assert not transferred.missing([op for name in preset_names() for op in lower(preset(name))])
    assert len(transferred.filled) == len(transferred.rows)


def test_a_transferred_table_is_saved_read_and_told_as_such(
    transferred: LatencyTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    transferred.save(tmp_path / "new.yaml")
    again = LatencyTable.load(tmp_path / "new.yaml")
    assert again.provenance == "transferred" and again.digest == transferred.digest
    arch = preset("uniform-t")
    assert again.predict(arch).value == pytest.approx(transferred.predict(arch).value, rel=1e-4)
    assert main(["table", "check", str(tmp_path / "new.yaml")]) == 0
    assert "transferred, 0 measured and" in capsys.readouterr().out
    assert main(["table", "show", str(tmp_path / "new.yaml"), "--kind", "head", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["provenance"] == "transferred" and all(row["filled"] for row in shown["rows"])


def test_rows_that_a_known_table_lacks_are_filled_in_from_its_others(space: SearchSpace) -> None:
    (whole, _) = known_tables(space)
    kept = {key: row for place, (key, row) in enumerate(whole.rows.items()) if place % 7}
    holey = dataclasses.replace(whole, rows=kept)
    only = draw_candidates(space, [holey], seed=0)
    measured = {label: network_ms(arch) for label, arch in only.choose(12, 0)}
    table = transfer_table(only, measured, name="new", profile=whole.profile, space=space, created="")
    assert not table.missing(space_ops(space))


def built(space: SearchSpace, link: FakeLink, folder: Path, *, resume: bool = False) -> LatencyTable:
    drawn = draw_candidates(space, known_tables(space), seed=0)
    return build_transferred(
        plan_samples(drawn, 8, passes=2, seed=0),
        drawn,
        space=space,
        name="new",
        runtime="onnxruntime",
        threads=1,
        batch=1,
        precision="fp32",
        exporter=FakeExporter(),
        start=link.start,
        samples=folder / "new.samples.part",
        created="2026-11-21",
        resume=resume,
        sleep=lambda seconds: None,
    )


class Killed(Exception):
    """What ends a build in the middle."""


@pytest.mark.slow
def test_a_transfer_that_was_killed_goes_on_and_gives_the_table_of_one_that_was_not(
    space: SearchSpace, tmp_path: Path
) -> None:
    def kill(number: int) -> float:
        if number == 9:
            raise Killed
        return 1.0

    whole = built(space, FakeLink(), tmp_path / "whole")
    with pytest.raises(Killed):
        built(space, FakeLink(disturb=kill), tmp_path / "killed")
    with pytest.raises(UsageError, match="continue with --resume"):
        built(space, FakeLink(), tmp_path / "killed")
    link = FakeLink()
    again = built(space, link, tmp_path / "killed", resume=True)
    assert link.timings == 16 - 9
    assert again.digest == whole.digest
    assert whole.profile.board == "Fake Board, one" and whole.profile.runtime_version == "1.0"


def test_too_few_networks_and_tables_are_refused(space: SearchSpace, candidates: Candidates) -> None:
    measured = {label: network_ms(arch) for label, arch in candidates.choose(4, 0)}
    with pytest.raises(UsageError, match="at least 5 measured networks, got 4"):
        transfer_table(
            candidates, measured, name="new", profile=candidates.tables[0].profile, space=space, created=""
        )
    with pytest.raises(UsageError, match="at least one known device, got none"):
        draw_candidates(space, [], seed=0)
    rows = {op.key: Row(1.0, 1.0, 1.0, 1.0) for op in lower(preset("uniform-t"))[:1]}
    foreign = dataclasses.replace(candidates.tables[0], name="foreign", rows=rows)
    with pytest.raises(UsageError, match="'foreign' has rows for none of these networks"):
        draw_candidates(space, [foreign], seed=0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--name", "../x"], "--name is letters"),
        (["--name", "taken"], "Choose another name, or remove it"),
        (["--name", "new", "--from", "rpi44"], "no device 'rpi44'. Did you mean 'rpi4'?"),
        (["--name", "new", "--samples", "4"], "--samples"),
    ],
)
def test_a_transfer_that_cannot_be_is_refused_before_the_work(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken.yaml").write_text("")
    assert main(["table", "transfer", "--out", str(tmp_path), *arguments]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_without_pandas_a_transfer_names_the_extra_that_brings_it_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setattr(
        "hwnas.measure.remote.hosts.start_link", lambda *_, **__: pytest.fail("a board was asked")
    )
    arguments = ["--name", "x", "--from", "cpu-x86", "--out", str(tmp_path / "out")]
    assert main(["table", "transfer", *arguments]) == 2
    assert "pip install 'hwnas[transfer]'" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
    with pytest.raises(MissingPackageError, match=r"'pandas' is not installed.*hwnas\[transfer\]"):
        draw_candidates(SearchSpace.default(), [LatencyTable.load("cpu-x86")], seed=0)


def test_a_dry_run_names_the_known_tables_and_measures_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["--name", "x", "--from", "rpi4", "--from", "cpu-x86", "--dry-run", "--out", str(out)]
    assert main(["table", "transfer", *arguments]) == 0
    told = capsys.readouterr().err
    assert "20 whole networks, 3 passes: 60 cells" in told and "rpi4, cpu-x86" in told
    assert not out.exists()


def test_a_board_is_measured_and_its_table_is_searched_with(
    space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts: list[str] = []

    def start_link(host: str, runtime: str, **_: object) -> Callable[[], FakeLink]:
        hosts.append(host)
        return FakeLink().start

    monkeypatch.setattr("hwnas.measure.remote.hosts.start_link", start_link)
    monkeypatch.setattr("hwnas.measure.networks.exporter_for", lambda *_: FakeExporter())
    for table in known_tables(space):
        table.save(tmp_path / f"{table.name}.yaml")
    (tmp_path / "small.yaml").write_text(json.dumps(space.to_dict()))
    monkeypatch.chdir(tmp_path)
    known = ["--from", "by-rows.yaml", "--from", "by-coefficients.yaml", "--space", "small.yaml"]
    assert main(["table", "transfer", "--name", "my-pi", "--host", "pi@raspberrypi", *known]) == 0
    assert hosts == ["pi@raspberrypi"]
    assert "transferred, 0 measured and" in capsys.readouterr().out
    assert Path("latency_tables/my-pi.samples").exists()
    table = LatencyTable.load("my-pi")
    assert len(table.heldout) == 20 and table.heldout.mape_percent < 5
    assert table.measurement["transfer"]["known"] == ["by-rows", "by-coefficients"]
    search = ["--device", "my-pi", "--space", "small.yaml", "--budget", "100ms", "--trials", "12"]
    assert main(["search", *search, "--out", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["provenance"] == "transferred"
