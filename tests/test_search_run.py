"""Run directories: resumed after any end, refused when the question has changed, never spoilt."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from search_commands import QUESTION, command, furnish, wait_for_candidates
from search_fakes import SMALL, by_size, of_schema_1, small_space, table

from hwnas.errors import FileFormatError, HwnasError, UsageError
from hwnas.io.jsonl import Log, read_log
from hwnas.search import SearchResult, load_run, resume, search
from hwnas.search.candidates import CANDIDATE_LOG, CANDIDATES
from hwnas.search.run import FRONT, RUN, candidate_log, locked, next_folder

BUDGET_MS = 0.9


def started(path: Path, trials: int = 40, **options: Any) -> SearchResult:
    return search(
        small_space(),
        device=table(),
        budget_ms=BUDGET_MS,
        accuracy=by_size,
        trials=trials,
        out=path,
        **options,
    )


def candidates_written_anew(run: Path) -> Log:
    """The run's record, emptied, to write other lines with the right checksums."""
    (run / CANDIDATES).unlink()
    return candidate_log(run)


def resumed(path: Path, **options: Any) -> SearchResult:
    return resume(path, device=table(), **options)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    started(tmp_path / "run")
    return tmp_path / "run"


def test_a_run_read_back_is_the_result_that_the_search_gave(tmp_path: Path) -> None:
    result = started(tmp_path / "run")
    assert load_run(tmp_path / "run") == result
    assert result.is_complete
    assert result.front[0].accuracy.value == max(one.accuracy.value for one in result.front)
    assert small_space().contains(result.front[0].arch)


def test_a_search_without_a_folder_finds_the_same_and_writes_nothing(tmp_path: Path, run: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    in_memory = search(small_space(), device=table(), budget_ms=BUDGET_MS, accuracy=by_size, trials=40)
    assert in_memory.trials == load_run(run).trials
    assert in_memory.path is None
    assert sorted(tmp_path.rglob("*")) == before


def test_a_stopped_run_ends_up_equal_to_one_that_was_not(tmp_path: Path, run: Path) -> None:
    asked = iter(range(1000))
    stopped = started(tmp_path / "stopped", stop=lambda: next(asked) >= 13)
    assert len(stopped.trials) == 13
    assert not stopped.is_complete
    assert len(resumed(tmp_path / "stopped").trials) == 40
    assert (tmp_path / "stopped" / CANDIDATES).read_bytes() == (run / CANDIDATES).read_bytes()


def test_a_record_torn_at_any_byte_of_its_last_lines_resumes_to_the_same_end(run: Path) -> None:
    whole = (run / CANDIDATES).read_bytes()
    start = len(b"".join(whole.splitlines(keepends=True)[:-1]))
    lengths = [*range(start - 2, len(whole), 17), len(whole) - 1]
    for length in lengths:
        (run / CANDIDATES).write_bytes(whole[:length])
        assert len(resumed(run).trials) == 40
        assert (run / CANDIDATES).read_bytes() == whole


def test_trials_is_the_total_and_more_of_them_go_on_from_the_end(run: Path) -> None:
    before = load_run(run).trials
    assert resumed(run, trials=50).trials[:40] == before
    assert len(load_run(run).trials) == 50
    assert len(resumed(run, trials=45).trials) == 50  # nothing is ever taken back


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"budget_ms": 0.8}, "budget_ms was 0.9, now 0.8"),
        ({"seed": 1}, "seed was 0, now 1"),
        ({"sampler": "random"}, "sampler was 'auto', now 'random'"),
        ({"confidence": 0.9}, "confidence was None, now 0.9"),
        ({"accuracy": "search_fakes:slow"}, "accuracy was 'search_fakes:by_size', now 'search_fakes:slow'"),
    ],
)
def test_a_changed_question_is_refused_with_the_difference(
    run: Path, changes: dict[str, Any], difference: str
) -> None:
    with pytest.raises(UsageError, match=difference):
        resumed(run, **changes)
    assert resumed(run, budget_ms=BUDGET_MS, seed=0, sampler="auto").is_complete


def test_a_table_that_has_changed_since_is_a_changed_question(run: Path) -> None:
    import dataclasses

    from hwnas.predictors.latency import Coefficients

    faster = dataclasses.replace(table(), coefficients=Coefficients((1e-8,) * 3 + (0.0, 0.0, 0.01)))
    with pytest.raises(UsageError, match="table_digest was"):
        resume(run, device=faster)


def test_a_space_with_another_choice_is_a_changed_question(run: Path) -> None:
    from hwnas.space.search_space import SearchSpace

    with pytest.raises(UsageError, match="space was"):
        resumed(run, space=SearchSpace.from_dict(SMALL | {"stem_stride": [16]}))


def test_a_folder_that_holds_a_run_is_not_written_over(run: Path) -> None:
    with pytest.raises(UsageError, match="holds a run already. Continue it with 'hwnas search --resume"):
        started(run)


def test_a_folder_that_cannot_be_written_is_found_before_anything_is_evaluated(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    def never(arch: object) -> float:
        raise AssertionError("evaluated")

    with pytest.raises(UsageError, match="must be writable"):
        search(
            small_space(),
            device=table(),
            budget_ms=BUDGET_MS,
            accuracy=never,
            trials=3,
            out=tmp_path / "file" / "run",
        )


def test_two_processes_do_not_search_in_one_run(run: Path) -> None:
    with locked(run), pytest.raises(UsageError, match="another process is searching"):
        resumed(run, trials=41)
    assert len(resumed(run, trials=41).trials) == 41


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / RUN).write_text("schema: 99\n"), "newer hwnas: upgrade"),
        (lambda run: (run / RUN).write_text("schema: 1\n"), "'config' is missing"),
        (lambda run: (run / RUN).write_text("a: [\n"), "not valid YAML"),
        (lambda run: (run / CANDIDATES).write_text('{"id": "x"}\n'), "line 1: not a candidate"),
        (lambda run: (run / CANDIDATES).write_text("[1]\n"), "line 1: not a candidate"),
    ],
)
def test_a_damaged_run_says_what_is_wrong(run: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(run)
    with pytest.raises(FileFormatError, match=message):
        load_run(run)


def test_a_candidate_that_means_another_network_by_now_is_not_shown_as_the_old_one(run: Path) -> None:
    rows = read_log(run / CANDIDATES, CANDIDATE_LOG).rows
    with candidates_written_anew(run) as log:
        log.extend(row | {"id": f"{number:012}"} for number, row in enumerate(rows))
    with pytest.raises(FileFormatError, match="is another network to this hwnas"):
        load_run(run)


def test_what_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run at"):
        load_run(tmp_path / "nothing")
    with pytest.raises(UsageError, match=r"has no run\.yaml"):
        load_run(tmp_path)


def test_folders_are_numbered_by_device_and_budget(tmp_path: Path) -> None:
    assert next_folder(tmp_path, "rpi4", 20.0) == tmp_path / "rpi4-20ms-1"
    (tmp_path / "rpi4-20ms-1").mkdir()
    assert next_folder(tmp_path, "tables/rpi4.yaml", 20.0) == tmp_path / "rpi4-20ms-2"


# --- the command line, in processes of its own -----------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return furnish(tmp_path)


@pytest.mark.slow
def test_of_six_searches_started_at_once_in_one_folder_one_runs_and_five_are_told_so(place: Path) -> None:
    six = [
        command(place, *QUESTION, "--trials", "60", "--seed", str(seed), "--out", "run") for seed in range(6)
    ]
    ends = [(process.communicate(timeout=120)[1], process.returncode) for process in six]
    (winner,) = [seed for seed, (_, code) in enumerate(ends) if code == 0]
    for err, code in ends[:winner] + ends[winner + 1 :]:
        assert code == 2
        assert "holds a run already" in err or "another process is searching in this run" in err
        assert "Traceback" not in err
    result = load_run(place / "run")
    assert result.config.seed == winner
    assert len({trial.id for trial in result.trials}) == len(result.trials) == 60
    assert (place / "evaluations").read_text().count("\n") == 60


@pytest.mark.slow
def test_of_six_that_take_a_run_up_at_once_one_does_and_nothing_is_evaluated_twice(place: Path) -> None:
    first = command(place, *QUESTION, "--trials", "20", "--out", "run")
    assert first.communicate(timeout=120)[1] == ""
    six = [command(place, "--resume", "run", *QUESTION[-2:], "--trials", "150", "--json") for _ in range(6)]
    ends = [(process.communicate(timeout=120), process.returncode) for process in six]
    assert 0 in [code for _, code in ends]
    for (out, err), code in ends:
        if code == 0:  # it came first, or after the one that did was done
            assert json.loads(out)["trials"] == 150
        else:
            assert code == 2
            assert "another process is searching in this run" in err
    assert len({trial.id for trial in load_run(place / "run").trials}) == 150
    assert (place / "evaluations").read_text().count("\n") == 150


def test_a_disk_that_fills_up_ends_the_search_with_all_that_was_written_intact(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, room = os.write, 5000

    def write(file: int, data: bytes) -> int:
        nonlocal room
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real(file, bytes(data)[:room])
        room -= written
        return written

    with monkeypatch.context() as patch:
        patch.setattr("hwnas.io.jsonl.os.write", write)
        patch.setattr("hwnas.io.jsonl.FLUSH_EVERY_S", 0.0)
        with pytest.raises(HwnasError, match="No space left on device.*stays valid"):
            started(tmp_path / "full")
    kept = load_run(tmp_path / "full").trials
    assert 3 < len(kept) < 40
    assert resumed(tmp_path / "full").trials == load_run(run).trials


def test_a_run_of_the_first_version_is_taken_up_as_it_is(run: Path) -> None:
    whole = load_run(run)
    header = yaml.safe_load((run / RUN).read_text())
    (run / RUN).write_text(yaml.safe_dump(of_schema_1(header)))
    rows = read_log(run / CANDIDATES, CANDIDATE_LOG).rows
    (run / CANDIDATES).write_text("".join(json.dumps(row) + "\n" for row in rows[:31]))
    assert resumed(run).trials == whole.trials


def test_a_lock_file_of_a_process_that_is_gone_holds_nobody_up(run: Path) -> None:
    (run / "lock").write_text("4194304\n")  # who held it was killed: the system freed the lock itself
    assert len(resumed(run, trials=41).trials) == 41


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.slow
def test_a_signal_saves_and_prints_the_command_that_resumes(
    place: Path, number: signal.Signals, code: int
) -> None:
    process = command(place, *QUESTION, "--trials", "3000", "--out", "my run")
    wait_for_candidates(place / "my run", 5)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    done = len(load_run(place / "my run").trials)
    assert f"Stopped with {done} of 3000 candidates, all saved. Resume: hwnas search --resume 'my run'" in err
    assert (place / "evaluations").read_text().count("\n") == done
    assert "Traceback" not in err
    assert json.loads((place / "my run" / FRONT).read_text())["trials"] == done
    out, _ = command(
        place, "--resume", "my run", *QUESTION[-2:], "--trials", str(done + 5), "--json"
    ).communicate()
    assert json.loads(out)["trials"] == done + 5
    assert (place / "evaluations").read_text().count("\n") == done + 5, "nothing was evaluated again"


@pytest.mark.slow
def test_a_second_ctrl_c_ends_a_slow_evaluation_at_once_and_loses_no_finished_one(place: Path) -> None:
    (place / "stuck.py").write_text(
        "import time, search_fakes\ncalls = []\n"
        "def f(arch):\n    calls.append(arch)\n    if len(calls) > 3:\n        time.sleep(60)\n"
        "    time.sleep(0.15)\n    return search_fakes.by_size(arch)\n"
    )
    options = [*QUESTION[:-1], "stuck:f", "--trials", "50", "--out", "run"]
    process = command(place, *options)
    wait_for_candidates(place / "run", 3)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Resume: hwnas search --resume run" in err
    assert len(load_run(place / "run").trials) == 3


OLD_RUNS = Path(__file__).with_name("old_runs")
"""Runs that hwnas wrote at commit 28bfeab (schema 2), without their reports."""


@pytest.mark.parametrize(("name", "devices"), [("one-device", 1), ("two-devices", 2)])
def test_a_run_of_schema_2_is_read_with_the_front_it_was_written_with(name: str, devices: int) -> None:
    run = load_run(OLD_RUNS / name)
    written = json.loads((OLD_RUNS / name / FRONT).read_text())
    assert [one.id for one in run.front] == [one["id"] for one in written["front"]]
    assert [target.budget_ms for target in run.config.targets] == [20.0, 40.0][:devices]
    assert run.config.devices == ("rpi4", "jetson-nano")[:devices]
    assert run.config.digests["rpi4"] == written["table_digest"]
    assert len(run.trials) == run.trials_wanted == 30


def test_a_run_of_schema_2_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWNAS_TABLES", str(OLD_RUNS / "tables"))  # the tables that the run was made with
    shutil.copytree(OLD_RUNS / "two-devices", tmp_path / "run")
    old = load_run(tmp_path / "run").trials
    assert resume(tmp_path / "run", trials=31).trials[:30] == old
