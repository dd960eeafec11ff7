"""`--verify-during`: a search that measures networks which may break the budget, and corrects its table."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from search_fakes import SMALL, by_size, small_space
from test_search_verify import BUDGET_MS, Agent, Board, Told, table

from hwnas.errors import FileFormatError, UsageError
from hwnas.predictors.latency import HeldOut, LatencyTable
from hwnas.report import write_report
from hwnas.search import SearchResult, document, load_run, verify, verify_front
from hwnas.search.verify import CORRECTED_TABLE, Stopped
from hwnas.search.verify_during import STAGES, Stages, search_and_measure, unsure

TRIALS = 240


def searched(out: Path, board: Board, **options: Any) -> SearchResult:
    settings: dict[str, Any] = {
        "space": small_space(),
        "device": table(),
        "budget_ms": BUDGET_MS,
        "accuracy": by_size,
        "trials": TRIALS,
        "sampler": "random",
        "start": lambda runtime: Agent,
    }
    return search_and_measure(out, measure=board, **(settings | options))


def verified(result: SearchResult, board: Board) -> SearchResult:
    return verify_front(result, measure=board, start=lambda runtime: Agent)


def test_unsure_networks_are_the_most_accurate_whose_interval_contains_the_budget(tmp_path: Path) -> None:
    run = searched(tmp_path / "run", Board())
    found = unsure(run, most=5)
    every = [
        trial for trial in run.trials if trial.latency.high is not None and trial.latency.low is not None
    ]
    inside = [trial for trial in every if trial.latency.low <= BUDGET_MS <= trial.latency.high]  # type: ignore[operator]
    assert 5 < len(inside) < len(every)
    assert [trial.accuracy.value for trial in found] == sorted(
        (trial.accuracy.value for trial in inside), reverse=True
    )[:5]
    assert not {trial.id for trial in unsure(run, most=5, known={trial.id for trial in found})} & {
        trial.id for trial in found
    }


def test_a_table_that_is_too_fast_is_corrected_while_the_search_runs(tmp_path: Path) -> None:
    """The board takes 8 % longer than the table says: without measuring, the front breaks the budget."""
    board = Board(times=1.08, luck=0.01)
    said: list[str] = []
    run = searched(tmp_path / "run", board, say=said.append)
    assert len(run.trials) == TRIALS
    corrected = LatencyTable.load(run.config.devices[0])
    assert corrected.name == "toy-corrected"
    for trial in run.trials:  # those of all stages, as the corrected table predicts them
        arch = run.space.decode(trial.vector)
        assert trial.latency.value == pytest.approx(board.true_ms(arch), rel=0.03)
        assert trial.latency.value == pytest.approx(corrected.predict(arch).value)
        assert trial.latency.value <= BUDGET_MS
    assert 8 < len(board.measured) == len(set(board.measured)) <= 16
    assert len(said) == 2
    assert re.match(r"Stage 1 of 3: \d networks whose interval contains the budget were measured", said[0])


def test_the_verified_front_is_better_than_that_of_a_search_that_measures_at_the_end_only(
    tmp_path: Path,
) -> None:
    from hwnas.search import search

    board = Board(times=1.1, luck=0.01)
    with_measuring = verified(searched(tmp_path / "during", board), board)
    options: dict[str, Any] = {"device": table(), "budget_ms": BUDGET_MS, "accuracy": by_size}
    search(small_space(), trials=TRIALS, sampler="random", out=tmp_path / "end", **options)
    at_end = verify_front(
        tmp_path / "end",
        device=table(),
        measure=Board(times=1.1, luck=0.01),
        start=lambda runtime: Agent,
    )
    assert with_measuring.front[0].accuracy.value >= at_end.front[0].accuracy.value
    for one in with_measuring.front:
        assert one.measured is not None and one.measured.value <= BUDGET_MS


def test_what_the_stages_measured_is_in_the_run_its_front_and_its_report(tmp_path: Path) -> None:
    board = Board(times=1.05, luck=0.02)
    result = verified(searched(tmp_path / "run", board), board)
    assert result.is_verified and load_run(tmp_path / "run") == result
    assert len(board.measured) == len(set(board.measured))  # none twice, at the end neither
    known = result.verification
    assert known is not None
    # Those that the corrected table predicts over the budget are no candidates of the last stage.
    assert sum(stage.measured for stage in known.stages) >= sum(one.round <= 2 for one in known.measured) > 0
    assert all(stage.correction is not None for stage in known.stages)
    told = json.loads(json.dumps(document(result)))["verification"]
    assert told["stages"][0]["measured"] == known.stages[0].measured > 0 and told["rounds"] >= 1
    page = write_report(result).read_text()
    assert re.search(r"In the search, after stage 1: \d networks whose interval contains the budget", page)
    assert "search, stage 2" in page


def test_a_table_that_is_right_is_left_as_it_is(tmp_path: Path) -> None:
    run = searched(tmp_path / "run", Board())
    known = run.verification
    assert known is not None
    assert [stage.correction.method for stage in known.stages if stage.correction] == ["none", "none"]
    for trial in run.trials:
        assert trial.latency.value == pytest.approx(table().predict(run.space.decode(trial.vector)).value)


@pytest.mark.parametrize("after", [0, 60, 85])
def test_stopped_anywhere_it_goes_on_to_the_same_run(after: int, tmp_path: Path) -> None:
    """`stop` is asked before each candidate and after each timing."""
    whole = searched(tmp_path / "whole", Board(times=1.06))
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > after

    board = Board(times=1.06)
    run: SearchResult | None = None
    stops = 0
    while run is None or not run.is_complete:
        try:
            run = searched(tmp_path / "run", board, stop=stop if stops < 3 else None)
        except Stopped as stopped:
            assert "stage" in str(stopped)
        stops, asked = stops + 1, 0
    assert [trial.id for trial in run.trials] == [trial.id for trial in whole.trials]
    assert run.verification is not None and whole.verification is not None
    assert run.verification.measured == whole.verification.measured


def test_a_network_that_dies_while_stages_are_measured_loses_at_most_its_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "AT_ONCE", 3)

    class Dying(Board):
        def __call__(self, archs: Any, profile: Any, report: Told) -> Any:
            if self.batches:
                raise KeyboardInterrupt
            return super().__call__(archs, profile, report)

    board = Dying(times=1.05)
    with pytest.raises(KeyboardInterrupt):
        searched(tmp_path / "run", board, networks=4)
    saved = load_run(tmp_path / "run" / "stage-1").verification
    assert saved is not None and len(saved.measured) == 3
    rest = Board(times=1.05)
    searched(tmp_path / "run", rest)
    assert not set(rest.measured) & set(board.measured)
    assert len(rest.batches[0]) == 1


def test_a_search_in_arrays_measures_after_each_stage_until_it_converges(tmp_path: Path) -> None:
    options: dict[str, Any] = {"space": None, "accuracy": "published", "trials": None, "budget_ms": 30.0}
    options["sampler"] = "auto"
    run = searched(tmp_path / "run", Board(times=1.05), **options)
    assert run.epochs and run.is_complete
    assert run.given > 0 and run.verification is not None
    assert [stage.measured for stage in run.verification.stages] == [8, 8]


def test_a_table_that_does_not_know_its_error_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    sure = dataclasses.replace(table(), heldout=HeldOut())
    with pytest.raises(UsageError, match="'toy' does not know its error.*leave --verify-during out"):
        searched(tmp_path / "run", Board(), device=sure)
    assert not (tmp_path / "run").exists()


def test_a_refused_search_leaves_no_stages_behind(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        searched(tmp_path / "run", Board(), confidence=7.0)
    assert not (tmp_path / "run" / STAGES).exists()


def test_damaged_stages_are_named(tmp_path: Path) -> None:
    (tmp_path / STAGES).write_text('{"schema": 1, "count": 0}')
    with pytest.raises(FileFormatError, match="not the stages of a search"):
        Stages.read(tmp_path)


# --- the command line -------------------------------------------------------------------------


def test_a_signal_while_a_stage_is_measured_keeps_it_and_resume_goes_on_to_a_verified_front(
    hwnas: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board(times=1.05)
    interrupting = True

    def measure(archs: Any, profile: Any, *, start: Any, report: Told) -> Any:
        if interrupting and board.batches:
            os.kill(os.getpid(), signal.SIGTERM)
        return board(archs, profile, report)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verify, "measured_profile", lambda *_, **__: (table().profile, {}))
    monkeypatch.setattr(verify, "measure_archs", measure)
    table().save(tmp_path / "toy.yaml")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    options = ["--device", "./toy.yaml", "--budget", f"{BUDGET_MS}ms", "--space", "small.yaml"]
    options += ["--accuracy", "search_fakes:by_size", "--trials", str(TRIALS), "--out", "run"]
    options += ["--sampler", "random"]
    answer = hwnas("search", *options, "--verify-during")
    assert answer.code == 143
    assert "Stopped while measuring after stage 2 of 3, all saved" in answer.err
    assert "Resume: hwnas search --resume run" in answer.err
    interrupting = False
    gone_on = hwnas("search", "--resume", "run")
    assert gone_on.code == 0, gone_on.err
    assert "Verified: " in gone_on.out and "In the search, after stage 2: " in gone_on.out
    assert load_run("run").is_verified
    assert len(board.measured) == len(set(board.measured))
    assert (tmp_path / "run" / "stage-1" / CORRECTED_TABLE).is_file()
    assert hwnas("describe", "run#1").code == 0


def test_verifying_during_the_search_is_for_runs_that_begin_so(
    hwnas: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hwnas.search import search

    monkeypatch.chdir(tmp_path)
    search(small_space(), device=table(), budget_ms=BUDGET_MS, accuracy=by_size, trials=9, out="run")
    answer = hwnas("search", "--resume", "run", "--verify-during")
    assert answer.code == 2
    assert "begun without --verify-during is verified with --verify" in answer.err
