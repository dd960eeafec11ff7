"""Many trainings at once: weak ones are stopped early, and nothing is lost when a process dies."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("timm")

from train_samples import ARCH, PLAIN_RECIPE, squares

from hwnas.cli.app import main
from hwnas.errors import FileFormatError, MissingPackageError, UsageError
from hwnas.io.jsonl import read_log
from hwnas.space import ArchSpec, count_macs, lower
from hwnas.space.size import band
from hwnas.train.checkpoint import LAST, resume_point
from hwnas.train.training import train
from hwnas.train.trainings import TABLE, TRAININGS
from hwnas.tune import Outcome, TuneConfig, train_many
from hwnas.tune.record import RECORD, read_states, write_states

with_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed here")

RECIPE = dataclasses.replace(PLAIN_RECIPE, epochs=3, ema_decay=0.0)
NARROW = dataclasses.replace(
    ARCH, stages=(dataclasses.replace(ARCH.stages[0], width=8, blocks=(None,)), *ARCH.stages[1:])
)
"""Half the size: in a band of its own."""


def alike(count: int) -> dict[str, ArchSpec]:
    """Networks of one band of sizes, by name."""
    return {
        f"net-{number}": dataclasses.replace(
            ARCH, stages=(dataclasses.replace(ARCH.stages[0], blocks=ARCH.stages[0].blocks * (2 + number)),
                          *ARCH.stages[1:])
        )
        for number in range(count)
    }  # fmt: skip


def contest(data: Path, out: Path, networks: dict[str, ArchSpec] | None = None) -> TuneConfig:
    return TuneConfig(networks or alike(2), str(data), RECIPE, out, limit=24)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("squares") / "data")


def test_a_question_that_makes_no_contest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least two networks are needed, got 1"):
        TuneConfig({"one": ARCH}, "data", RECIPE, tmp_path)
    with pytest.raises(UsageError, match="--first-epochs must be from 1 to the recipe's 3 epochs, got 5"):
        TuneConfig(alike(2), "data", RECIPE, tmp_path, first_epochs=5)
    with pytest.raises(UsageError, match="--keep-one-in must be 2 or more, got 1"):
        TuneConfig(alike(2), "data", RECIPE, tmp_path, keep_one_in=1)


def test_networks_of_another_size_are_in_another_band(tmp_path: Path) -> None:
    bands = contest(tmp_path, tmp_path, {"wide": ARCH, "narrow": NARROW}).bands()
    assert bands["narrow"] < bands["wide"]
    assert bands["wide"] == band(count_macs(lower(ARCH)))
    assert band(2**20) == band(2**21 - 1) == band(2**21) - 1


def test_a_damaged_record_is_named_and_a_newer_one_refused(tmp_path: Path) -> None:
    write_states(tmp_path, {"one": "finished", "two": "open"})
    assert read_states(tmp_path) == {"one": "finished", "two": "open"}
    whole = (tmp_path / RECORD).read_text()
    (tmp_path / RECORD).write_text(whole[:20])
    with pytest.raises(FileFormatError, match="contest.json: not a record of trainings"):
        read_states(tmp_path)
    (tmp_path / RECORD).write_text(whole.replace('"schema": 2', '"schema": 3'))
    with pytest.raises(FileFormatError, match="schema 3"):
        read_states(tmp_path)
    (tmp_path / RECORD).write_text(whole.replace("open", "finished"))
    with pytest.raises(FileFormatError, match="not a record of trainings"):
        read_states(tmp_path)
    (tmp_path / RECORD).write_text(
        '{"schema": 1, "states": {"one": "open"}}'
    )  # of before there were checksums
    assert read_states(tmp_path) == {"one": "open"}


def test_without_ray_it_says_how_to_get_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'hwnas\[ray\]'"):
        train_many(contest(data, tmp_path / "out"))


def test_a_folder_with_a_contest_is_not_begun_anew(data: Path, tmp_path: Path) -> None:
    write_states(tmp_path, {"net-0": "open"})
    with pytest.raises(UsageError, match="already holds trainings: add --resume"):
        train_many(contest(data, tmp_path))


class FakeTrial:
    """What a scheduler sees of one of Ray Tune's trials."""

    def __init__(self, name: str) -> None:
        self.trial_id, self.config = name, {"network": name}


@with_ray
def test_after_each_rung_the_better_half_of_a_size_goes_on() -> None:
    from hwnas.tune.size_bands import SizeBandScheduler

    stopped: list[str] = []
    halving = SizeBandScheduler(
        {**dict.fromkeys("abcd", 18), "small": 16},
        epochs=8,
        first_epochs=2,
        keep_one_in=2,
        on_epoch=lambda name, result: None,
        on_stopped=stopped.append,
    )
    trials = {name: FakeTrial(name) for name in ("a", "b", "c", "d", "small")}
    for trial in trials.values():
        halving.on_trial_add(None, trial)

    def told(name: str, epoch: int, top1_percent: float) -> str:
        return halving.on_trial_result(
            None, trials[name], {"epoch": epoch, "top1_percent": top1_percent, "again": False}
        )

    assert told("a", 1, 10) == told("b", 1, 1) == "CONTINUE", "no rung before the second epoch"
    assert told("a", 2, 50) == "CONTINUE", "nothing to be compared with"
    assert told("b", 2, 40) == "STOP"
    assert told("c", 2, 60) == "CONTINUE"
    assert told("d", 2, 45) == "STOP", "below the median of 50, 40 and 60"
    assert told("small", 2, 5) == "CONTINUE", "in a size of its own"
    assert told("a", 4, 70) == "CONTINUE"
    assert told("c", 4, 65) == "STOP"
    assert told("a", 8, 90) == "CONTINUE", "the last epoch is not cut off: the training ends itself"
    assert told("small", 8, 4) == told("small", 8, 3) == "CONTINUE", "nor is the one that ends below it"
    assert stopped == ["b", "d", "c"]


@pytest.mark.slow
@with_ray
def test_who_falls_behind_is_ended_and_a_resumed_contest_leaves_alone_what_is_done_with(
    two_local_workers: None, data: Path, tmp_path: Path
) -> None:
    rival, slow = alike(2).values()
    question = contest(data, tmp_path / "out", {"rival": rival, "slow": slow, "narrow": NARROW})
    write_states(question.out, {"rival": "finished", "slow": "open", "narrow": "open"})
    question.folder("rival").mkdir()
    lines = [json.dumps({"epoch": epoch, "top1_percent": 100.5}) for epoch in (1, 2, 3)]
    (question.folder("rival") / "history.jsonl").write_text("\n".join(lines))
    said: list[str] = []
    outcomes = train_many(question, resume=True, workers=1, say=said.append)
    assert {one.name: (one.state, one.epochs) for one in outcomes} == {
        "rival": ("finished", 3),
        "narrow": ("finished", 3),
        "slow": ("fallen behind", 1),
    }
    assert [one.name for one in outcomes] == ["rival", "narrow", "slow"], "the best first"
    assert "slow: ended, others of its size have learnt more" in said
    assert not any(line.startswith("rival") for line in said), "what is done with is not told again"
    alone = train(NARROW, data, RECIPE, tmp_path / "alone", limit=24)
    held = resume_point(question.folder("narrow"))
    assert [record.epoch for record in held.history] == [1, 2, 3]
    assert held.arch == alone.arch and held.recipe == RECIPE
    assert json.loads((question.folder("narrow") / "result.json").read_text())["epochs"] == 3
    written = {one.name: (one.folder / LAST).stat().st_mtime_ns for one in outcomes[1:]}
    again = train_many(question, resume=True, workers=1)
    assert [plain(one) for one in again] == [plain(one) for one in outcomes]
    assert written == {one.name: (one.folder / LAST).stat().st_mtime_ns for one in again[1:]}


@pytest.mark.slow
@with_ray
def test_a_contest_whose_process_is_killed_goes_on(data: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.path[:0] = [sys.argv[3]]\n"
        "from pathlib import Path\n"
        "from test_contest import alike, contest\n"
        "from hwnas.tune import train_many\n"
        "train_many(contest(Path(sys.argv[1]), Path(sys.argv[2]), alike(2)), resume=True, workers=1)\n"
    )
    here = Path(__file__).resolve().parent
    out = tmp_path / "contest"
    arguments = [sys.executable, "-c", program, str(data), str(out), str(here)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parent), str(here)])}
    running = subprocess.Popen(arguments, env=environment)
    try:
        until = time.monotonic() + 120
        while not (out / "net-0" / "history.jsonl").exists():
            assert running.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        running.send_signal(signal.SIGKILL)
    finally:
        running.kill()
        running.wait()
    before = (out / "net-0" / "history.jsonl").read_text().splitlines()
    subprocess.run(arguments, env=environment, check=True, timeout=200)
    after = (out / "net-0" / "history.jsonl").read_text().splitlines()
    assert after[: len(before)] == before, "what was trained was not trained again"
    assert set(read_states(out).values()) <= {"finished", "fallen behind"}
    assert len(after) == RECIPE.epochs, "the first of its size is not ended"


def workers_that_train() -> list[int]:
    """Process numbers of Ray's workers that train_many a trial."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may have ended meanwhile
            if b"ImplicitFunc" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


@pytest.mark.slow
@with_ray
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes are not told by /proc here")
def test_a_worker_that_dies_is_replaced_and_goes_on(
    two_local_workers: None, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "contest"
    killed: list[int] = []

    def kill_a_worker() -> None:
        until = time.monotonic() + 120
        while not (out / "net-0" / "history.jsonl").exists() and time.monotonic() < until:
            time.sleep(0.02)
        for number in workers_that_train():
            os.kill(number, signal.SIGKILL)
            killed.append(number)

    thread = threading.Thread(target=kill_a_worker)
    thread.start()
    outcomes = train_many(contest(data, out, alike(2)), workers=1)
    thread.join()
    assert killed
    assert {one.state for one in outcomes} <= {"finished", "fallen behind"}
    assert [one.error for one in outcomes] == ["", ""]
    assert next(one for one in outcomes if one.name == "net-0").epochs == RECIPE.epochs


@pytest.mark.slow
@with_ray
def test_more_gpus_than_there_are_are_refused_at_once_and_leave_no_contest(
    two_local_workers: None, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="--gpus must be at most what Ray has, got 3 of 0"):
        train_many(contest(data, tmp_path / "out"), gpus=3)
    assert read_states(tmp_path / "out") == {}


@pytest.mark.slow
@with_ray
def test_ctrl_c_ends_it_with_130_and_says_how_to_go_on(data: Path, tmp_path: Path) -> None:
    for name, arch in alike(2).items():
        (tmp_path / f"{name}.yaml").write_text(arch.to_yaml())
    words = [sys.executable, "-m", "hwnas", "contest", "net-0.yaml", "net-1.yaml", "--data", str(data)]
    words += ["--recipe", "small", "--epochs", "40", "--batch", "12", "--image-size", "16"]
    words += ["--stem-stride", "4", "--out", "out"]
    here = Path(__file__).resolve().parent
    running = subprocess.Popen(
        words,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(here.parent)},
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, SIGINT is ignored, and a child would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until = time.monotonic() + 120
    while not (tmp_path / "out" / "net-0" / "history.jsonl").exists():
        assert running.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "--out out --resume" in said
    assert read_states(tmp_path / "out") == {"net-0": "open", "net-1": "open"}


@pytest.mark.slow
@with_ray
def test_the_command_tells_who_won_and_keeps_the_trainings(
    two_local_workers: None, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, arch in alike(2).items():
        (tmp_path / f"{name}.yaml").write_text(arch.to_yaml())
    words = ["contest", str(tmp_path / "net-0.yaml"), str(tmp_path / "net-1.yaml"), "--data", str(data)]
    words += ["--recipe", "small", "--epochs", "2", "--batch", "12", "--image-size", "16"]
    words += ["--stem-stride", "4", "--out", str(tmp_path / "out"), "--json"]
    assert main(words) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["networks"][0]["state"] == "finished"
    assert {one["name"] for one in document["networks"]} == {"net-0", "net-1"}
    rows = read_log(tmp_path / "out" / TABLE, TRAININGS).rows
    assert len(rows) == sum(one["state"] == "finished" for one in document["networks"])
    assert main(words) == 2
    assert "already holds trainings: add --resume" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0


def plain(outcome: Outcome) -> tuple[object, ...]:
    return outcome.name, outcome.state, outcome.epochs, outcome.top1_percent
