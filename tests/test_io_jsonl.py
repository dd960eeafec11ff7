"""Logs: appended to only, whole after any kind of end, and nothing damaged is taken for true."""

from __future__ import annotations

import errno
import json
import math
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from search_fakes import cheap_by_size, small_space, table

from hwnas.errors import FileFormatError, HwnasError, UsageError
from hwnas.io import jsonl
from hwnas.io.jsonl import FLUSH_EVERY_S, Kind, Log, append_shared, read_log
from hwnas.measure.samples import SAMPLES, Journal, read_samples
from hwnas.predictors.accuracy._scores import SCORES, Score, Scores
from hwnas.predictors.accuracy.short_training import CURVES, Settings, ShortTraining
from hwnas.search import load_run, resume, search
from hwnas.search.candidates import CANDIDATE_LOG, CANDIDATES
from hwnas.search.evolution import Epoch
from hwnas.search.run import PROGRESS, PROGRESS_LOG, RUN, create_run, progress_log
from hwnas.search.trial import Trial
from hwnas.space import preset
from hwnas.train.trainings import TRAININGS, read_trainings, remember

OLD = Path(__file__).parent / "old_formats"
KIND = Kind("hwnas test lines", noun="a line of a test", fix="Delete it", old_keys=("id",))
BUDGET_MS = 0.9


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# --- one log ----------------------------------------------------------------------------------


def test_cheap_lines_wait_for_a_moment_and_a_line_after_slow_work_is_written_at_once(tmp_path: Path) -> None:
    clock = Clock()
    log = Log(tmp_path / "r", KIND, clock=clock)
    log.append({"id": 1})
    assert read_log(tmp_path / "r", KIND).rows == []
    clock.now += FLUSH_EVERY_S
    log.append({"id": 2})
    assert read_log(tmp_path / "r", KIND).rows == [{"id": 1}, {"id": 2}]
    log.close()


def test_a_line_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_text('{"id": 1}\nnonsense\n{"id": 3}\n')
    with pytest.raises(FileFormatError, match="line 2: not a line of a test"):
        read_log(path, KIND)


def test_a_line_that_is_there_twice_counts_once_and_the_others_keep_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "r"
    with Log(path, KIND) as log:
        log.extend([{"id": 1}, {"id": 2}])
    first, one, two = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + one + one + two)
    assert list(read_log(path, KIND).numbered()) == [(2, {"id": 1}), (4, {"id": 2})]
    path.write_text('{"id": 1}\n{"id": 1}\n{"id": 2}\n')  # of before there were checksums
    assert list(read_log(path, KIND).numbered()) == [(1, {"id": 1}), (3, {"id": 2})]


def test_a_full_disk_is_a_clear_error_and_what_was_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r"
    log = Log(path, KIND)
    log.append({"id": 1})
    log.flush()

    def full(_file: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("hwnas.io.jsonl.os.write", full)
        log.append({"id": 2})
        with pytest.raises(HwnasError, match="No space left on device.*stays valid"):
            log.flush()
    assert read_log(path, KIND).rows == [{"id": 1}]
    log.close()
    assert read_log(path, KIND).rows == [{"id": 1}, {"id": 2}]


def test_a_partial_write_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr("hwnas.io.jsonl.os.write", lambda file, data: real(file, bytes(data)[:3]))
    with Log(tmp_path / "r", KIND) as log:
        log.append({"id": 12345})
    assert read_log(tmp_path / "r", KIND).rows == [{"id": 12345}]


def test_a_line_of_another_log_is_refused_though_its_own_checksum_is_right(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with Log(tmp_path / name, KIND, of={"question": name}) as log:
            log.append({"id": name})
    lines = [(tmp_path / name).read_bytes().splitlines(keepends=True) for name in ("a", "b")]
    (tmp_path / "a").write_bytes(b"".join(lines[0]) + lines[1][1])
    with pytest.raises(FileFormatError, match="line 3.*checksum does not match"):
        read_log(tmp_path / "a", KIND)
    (tmp_path / "b").write_bytes(lines[1][1])
    with pytest.raises(FileFormatError, match="first line of the file is gone"):
        read_log(tmp_path / "b", KIND)


def test_a_log_that_belongs_to_something_else_is_not_appended_to(tmp_path: Path) -> None:
    Log(tmp_path / "r", KIND, of={"question": "a"}).close()
    before = (tmp_path / "r").read_bytes()
    with pytest.raises(FileFormatError, match="belong to something else"):
        Log(tmp_path / "r", KIND, of={"question": "b"})
    assert (tmp_path / "r").read_bytes() == before


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_neither_written_nor_read(tmp_path: Path, number: float) -> None:
    with Log(tmp_path / "r", KIND) as log, pytest.raises(HwnasError, match="must be finite"):
        log.append({"id": number})
    assert read_log(tmp_path / "r", KIND).rows == []
    for text in (json.dumps(number), "1e999"):
        (tmp_path / "old").write_text(f'{{"id": {text}}}\n')
        with pytest.raises(FileFormatError, match="line 1.*must be finite"):
            read_log(tmp_path / "old", KIND)


@pytest.mark.parametrize(
    "content",
    [
        b"a user's notes, without a newline",
        b"# notes\nwith several lines\nand no newline at the end",
        b'{"other": 1}\n{"torn',
        b'{"id": 1}\nnot json at all',
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b'{"format":"hwnas latency samples","version":3,"of":{},"crc":"00000000"}\n{"id"',
    ],
)
def test_a_foreign_file_is_refused_before_anything_in_it_is_cut(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=str(path)):
        Log(path, KIND)
    with pytest.raises(FileFormatError):
        append_shared(path, KIND, [{"id": 1}])
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/full"])
def test_a_device_is_no_log(name: str) -> None:
    with pytest.raises(FileFormatError, match="not a regular file"):
        read_log(Path(name), KIND)
    with pytest.raises(HwnasError, match="not a regular file"):
        Log(Path(name), KIND)


def test_a_pipe_that_nobody_writes_to_does_not_hold_the_reader_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileFormatError, match="not a regular file"):
        read_log(tmp_path / "pipe", KIND)


def test_a_line_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 1000)
    with Log(tmp_path / "r", KIND) as log, pytest.raises(HwnasError, match="at most 1000 bytes"):
        log.append({"id": "x" * 1000})
    with (tmp_path / "r").open("ab") as file:
        file.write(b'{"id":"' + b"x" * 2000)
    with pytest.raises(FileFormatError, match="at most 1000 bytes"):
        read_log(tmp_path / "r", KIND)


# --- every log there is -----------------------------------------------------------------------


@dataclass(frozen=True)
class Use:
    """One kind of log, used as the product uses it."""

    kind: Kind
    file: str
    write: Callable[[Path, int], None]
    """Adds the entry of that number, in a process that has just begun."""
    read: Callable[[Path], list[Any]]
    """What the product makes of the file, an item for each entry."""


ARCH = preset("uniform-t").adapted(classes=3)


def training_row(seed: int) -> dict[str, Any]:
    return {
        "schema": 1,
        "id": ARCH.id,
        "seed": seed,
        "top1_percent": 70.0 + seed,
        "top1_by_epoch_percent": [70.0 + seed],
        "train_seconds": 1.0,
        "data": {"digest": "0123", "name": "flowers", "train_images": 20},
        "recipe": {"epochs": 1},
        "init": "",
        "arch": ARCH.to_dict(),
    }


class Images:
    digest = "abc123"


def short_training(path: Path) -> ShortTraining:
    settings = Settings(epochs=2, images=2000, test=1000, batch=64, seed=1)
    return ShortTraining(Images(), settings, path)  # type: ignore[arg-type]


def add_curve(path: Path, number: int) -> None:
    short_training(path)._keep(f"net-{number}", 1000 + number, [50.0 + number])


def curves(path: Path) -> list[Any]:
    return [(macs, name) for macs, name, _ in short_training(path)._read()]


def add_samples(path: Path, number: int) -> None:
    with Journal(path, {"name": "board"}, resume=True) as journal:
        journal.append({"cell": f"random-{number}", "pass": 0, "samples_ns": [1.5e6, 1.25e6]})


def add_candidate(path: Path, number: int) -> None:
    run = path.parent
    if not (run / RUN).exists():
        search(small_space(), device=table(), budget_ms=BUDGET_MS, accuracy=cheap_by_size, trials=1, out=run)
        path.unlink()
    done = len(load_run(run).trials)
    resume(run, device=table(), trials=done + 1)


def candidates(path: Path) -> list[Any]:
    return list(load_run(path.parent).trials) if (path.parent / RUN).exists() else []


def add_epoch(path: Path, _number: int) -> None:
    run = path.parent
    if not (run / RUN).exists():
        create_run(run, load_run(OLD / "arrays").config, trials=None)
    number = len(load_run(run).epochs)
    with progress_log(run) as log:
        log.append(asdict(Epoch(number, 100 * number + 8, 0, 0, 0.25 + number / 8)))


def epochs(path: Path) -> list[Any]:
    return list(load_run(path.parent).epochs) if (path.parent / RUN).exists() else []


USES = {
    "candidates": Use(CANDIDATE_LOG, "run/candidates.jsonl", add_candidate, candidates),
    "samples": Use(
        SAMPLES, "b.samples", add_samples, lambda path: [r["cell"] for r in read_samples(path).rows]
    ),
    "trainings": Use(
        TRAININGS,
        "trainings.jsonl",
        lambda path, number: remember(training_row(number), path),
        lambda path: [one.seed for one in read_trainings(path)],
    ),
    "scores": Use(
        SCORES,
        "scores.jsonl",
        lambda path, number: Scores(path).add(f"net-{number}", {"synflow": Score(1.5 + number, 0.25)}),
        lambda path: list(Scores(path)._known),
    ),
    "curves": Use(CURVES, "curves.jsonl", add_curve, curves),
    "progress": Use(PROGRESS_LOG, "arrays/progress.jsonl", add_epoch, epochs),
}


def test_every_kind_of_log_that_the_product_has_is_tried_here() -> None:
    product = Path(jsonl.__file__).parents[1]
    made = [file for file in product.rglob("*.py") if " = Kind(\n" in file.read_text()]
    assert len([file for file in made if "hwnas.io.jsonl import" in file.read_text()]) == len(USES)


@pytest.fixture(params=USES)
def use(request: pytest.FixtureRequest) -> Use:
    return USES[request.param]


every_use = pytest.mark.parametrize(
    "use",
    [pytest.param(name, marks=pytest.mark.slow if name == "candidates" else ()) for name in USES],
    indirect=True,
)
"""For tests that read a log a thousand times: a record of candidates is checked against its run each time."""


@every_use
def test_a_kill_that_tears_the_last_line_at_any_byte_costs_that_line_and_nothing_else(
    use: Use, tmp_path: Path
) -> None:
    path = tmp_path / use.file
    path.parent.mkdir(exist_ok=True)
    for number in range(3):
        use.write(path, number)
    whole = path.read_bytes()
    entries = use.read(path)
    assert len(entries) == 3
    last = whole[:-1].rfind(b"\n") + 1
    first_two = whole[:last]
    for length in range(last, len(whole)):
        path.write_bytes(whole[:length])
        assert use.read(path) == entries[:2]
        assert path.read_bytes() == whole[:length], "reading changes nothing"
    for length in range(last, len(whole), 1 if use.file != "run/candidates.jsonl" else 17):
        path.write_bytes(whole[:length])
        use.write(path, 2)
        assert path.read_bytes() == whole, "the next start writes the line again, after the whole ones"
    for length in range(len(first_two.split(b"\n")[0])):  # torn in the first line: it starts anew
        path.write_bytes(whole[:length])
        if length % 9 == 0:
            use.write(path, 0)
            assert path.read_bytes() == whole[: len(path.read_bytes())]
            assert use.read(path) == entries[:1]
    path.write_bytes(first_two + b"\0" * 512)  # a power cut
    assert use.read(path) == entries[:2]
    use.write(path, 2)
    assert path.read_bytes() == whole


@every_use
def test_flipped_bits_in_any_log_are_refused_or_cost_its_torn_end(use: Use, tmp_path: Path) -> None:
    path, rng = tmp_path / use.file, random.Random(1)
    path.parent.mkdir(exist_ok=True)
    for number in range(3):
        use.write(path, number)
    whole, entries = path.read_bytes(), read_log(path, use.kind).rows
    for _ in range(400):
        damaged = bytearray(whole)
        place = rng.randrange(len(whole))
        damaged[place] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(FileFormatError):
            read_log(path, use.kind)
        with pytest.raises(FileFormatError):
            use.read(path)
    path.write_bytes(whole)
    assert read_log(path, use.kind).rows == entries


def test_what_older_versions_wrote_is_read_and_appended_to(use: Use, tmp_path: Path) -> None:
    shutil.copytree(OLD, tmp_path / "old")
    path = tmp_path / "old" / use.file.replace("b.samples", "board.samples")
    before = path.read_bytes()
    contents = read_log(path, use.kind)
    assert not contents.checked
    old = use.read(path)
    assert len(old) == len(contents.rows) >= 2
    if use.kind is SAMPLES:
        with Journal(path, {"name": "board", "threads": 1, "seed": 0}, resume=True) as journal:
            journal.append({"cell": "random-9"})
    else:
        use.write(path, 9)
    assert path.read_bytes().startswith(before), "it stays a file that older versions read"
    assert use.read(path)[: len(old)] == old
    assert len(use.read(path)) == len(old) + 1
    assert b'"crc"' not in path.read_bytes()


def test_an_old_log_torn_at_any_byte_goes_on_too(use: Use, tmp_path: Path) -> None:
    if use.kind is CANDIDATE_LOG:
        pytest.skip("its lines are written by whole searches: test_search_run tears them")
    path = tmp_path / use.file
    path.parent.mkdir(exist_ok=True)
    whole = (OLD / use.file.replace("b.samples", "board.samples")).read_bytes()
    last = whole[:-1].rfind(b"\n") + 1
    for length in range(last, len(whole)):
        path.write_bytes(whole[:length])
        with Log(path, use.kind) as log:
            log.append({"id": "new"})
        assert path.read_bytes() == whole[:last] + b'{"id":"new"}\n'


WRITER = """
import sys
from pathlib import Path
from hwnas.io.jsonl import append_shared
from hwnas.predictors.accuracy._scores import SCORES
from hwnas.predictors.accuracy.short_training import CURVES
from hwnas.train.trainings import TRAININGS
kind = {"trainings": TRAININGS, "scores": SCORES, "curves": CURVES}[sys.argv[1]]
for number in range(200):
    append_shared(Path(sys.argv[2]), kind, [{"writer": sys.argv[3], "number": number}])
"""


@pytest.mark.parametrize(
    "name", ["trainings", *(pytest.param(name, marks=pytest.mark.slow) for name in ("scores", "curves"))]
)
def test_two_writers_at_once_lose_nothing(name: str, tmp_path: Path) -> None:
    path = tmp_path / "shared.jsonl"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, name, str(path), who],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        )
        for who in "ab"
    ]
    assert [process.wait(120) for process in writers] == [0, 0]
    rows = read_log(path, USES[name].kind).rows
    assert [row["number"] for row in rows if row["writer"] == "a"] == list(range(200))
    assert [row["number"] for row in rows if row["writer"] == "b"] == list(range(200))


# --- a record belongs to its config ---------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> Path:
    out = tmp_path / "run"
    search(small_space(), device=table(), budget_ms=BUDGET_MS, accuracy=cheap_by_size, trials=30, out=out)
    return out


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD / "run", tmp_path / "old"))


def test_a_run_of_before_checksums_is_marked_unchecked(run: Path, old_run: Path) -> None:
    assert load_run(run).checked
    assert not load_run(old_run).checked
    assert len(load_run(old_run).trials) == 12


def test_candidates_whose_run_file_is_gone_are_not_adopted_by_a_new_search(run: Path) -> None:
    (run / RUN).unlink()
    before = (run / CANDIDATES).read_bytes()
    with pytest.raises(UsageError, match=r"candidates\.jsonl.* of a run whose run\.yaml is gone"):
        search(small_space(), device=table(), budget_ms=0.5, accuracy=cheap_by_size, trials=30, out=run)
    assert (run / CANDIDATES).read_bytes() == before
    assert not (run / RUN).exists()


def test_epochs_whose_run_file_is_gone_are_not_adopted_either(tmp_path: Path) -> None:
    config = load_run(OLD / "arrays").config
    (tmp_path / PROGRESS).write_bytes((OLD / "arrays" / PROGRESS).read_bytes())
    with pytest.raises(UsageError, match=r"progress\.jsonl of a run whose run\.yaml is gone"):
        create_run(tmp_path, config, trials=None)


def test_epochs_of_another_run_are_refused(tmp_path: Path) -> None:
    config = load_run(OLD / "arrays").config
    for name, seed in (("a", 1), ("b", 2)):
        create_run(tmp_path / name, replace(config, seed=seed), trials=None)
        add_epoch(tmp_path / name / PROGRESS, 0)
    shutil.copy(tmp_path / "b" / PROGRESS, tmp_path / "a" / PROGRESS)
    with pytest.raises(FileFormatError, match=r"progress\.jsonl: its lines belong to another config"):
        load_run(tmp_path / "a")


@pytest.mark.parametrize(
    ("field", "value"),
    [("number", 2), ("evaluated", -1), ("recorded", "8"), ("hypervolume", "x"), ("front", 1.5)],
)
def test_an_epoch_that_cannot_be_one_is_refused(tmp_path: Path, field: str, value: Any) -> None:
    run = Path(shutil.copytree(OLD / "arrays", tmp_path / "old"))
    lines = (run / PROGRESS).read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | {field: value})
    (run / PROGRESS).write_text("\n".join(lines) + "\n")
    with pytest.raises(FileFormatError, match="line 2: not an epoch of a search"):
        load_run(run)


def test_given_candidates_are_checked_and_a_run_that_was_killed_while_they_were_copied_is_refused(
    run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "next"
    search(start_from=run, device=table(), budget_ms=0.8, accuracy=cheap_by_size, trials=5, out=out)
    given = load_run(out).given
    assert given > 5
    assert load_run(out).checked
    lines = (out / CANDIDATES).read_bytes().splitlines(keepends=True)
    (out / CANDIDATES).write_bytes(b"".join(lines[:given]))  # the first line says what the others belong to
    with pytest.raises(FileFormatError, match=f"has {given - 1} of the {given} candidates that it starts"):
        load_run(out)


@pytest.mark.parametrize("which", ["run", "old_run"])
def test_a_budget_edited_in_the_run_file_is_refused(which: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(which)
    text = (path / RUN).read_text()
    assert "budget_ms: 0.9" in text
    (path / RUN).write_text(text.replace("budget_ms: 0.9", "budget_ms: 0.3"))
    with pytest.raises(FileFormatError, match=r"another config|at most 0\.3 of latency"):
        load_run(path)


def test_a_run_file_edited_beside_its_config_is_refused(run: Path) -> None:
    text = (run / RUN).read_text()
    assert "trials: 30" in text
    (run / RUN).write_text(text.replace("trials: 30", "trials: 3"))
    with pytest.raises(FileFormatError, match=r"run\.yaml: the checksum does not match"):
        load_run(run)


def test_candidates_of_another_run_are_refused(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    options: dict[str, Any] = {"budget_ms": BUDGET_MS, "accuracy": cheap_by_size, "trials": 5, "seed": 3}
    search(small_space(), device=table(), out=other, **options)
    shutil.copy(other / CANDIDATES, run / CANDIDATES)
    with pytest.raises(FileFormatError, match="another config"):
        load_run(run)


def test_a_line_that_is_there_twice_counts_once(run: Path, old_run: Path) -> None:
    for path in (run, old_run):
        before = load_run(path).trials
        lines = (path / CANDIDATES).read_bytes().splitlines(keepends=True)
        (path / CANDIDATES).write_bytes(b"".join([*lines, lines[-1], lines[2]]))
        assert load_run(path).trials == before


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("params", 5, "parameters"),
        ("macs", -1, "sizes positive"),
        ("latency_ms", [0.95, 0.0, 0.9, 1.0], "at most 0.9 of latency"),
        ("latency_ms", [-0.1, 0.0, None, None], "at most 0.9 of latency"),
        ("latency_ms", [0.5, 0.0, 0.7, 0.3], "ordered"),
        ("accuracy", [50.0, -1.0, None, None], "standard deviation"),
        ("id", "0" * 12, "another network"),
        ("vector", [0, 0], "not a candidate"),
        ("vector", [10**400] * 12, "not a candidate"),
    ],
)
def test_a_number_that_is_not_true_of_the_network_is_refused(
    old_run: Path, field: str, value: Any, message: str
) -> None:
    lines = (old_run / CANDIDATES).read_text().splitlines()
    row = json.loads(lines[3]) | {field: value}
    (old_run / CANDIDATES).write_text("\n".join([*lines[:3], json.dumps(row), *lines[4:]]) + "\n")
    with pytest.raises(FileFormatError, match=f"line 4.*{message}"):
        load_run(old_run)


def test_a_latency_that_the_table_does_not_predict_is_refused_at_a_resume(old_run: Path) -> None:
    lines = (old_run / CANDIDATES).read_text().splitlines()
    row = json.loads(lines[3])
    row["latency_ms"][0] *= 0.99
    (old_run / CANDIDATES).write_text("\n".join([*lines[:3], json.dumps(row), *lines[4:]]) + "\n")
    with pytest.raises(FileFormatError, match="its table predicts"):
        resume(old_run, device=table(), trials=13)


@pytest.mark.parametrize("count", [200, pytest.param(3000, marks=pytest.mark.slow)])
def test_of_many_damaged_records_none_is_taken_for_another_one(run: Path, count: int) -> None:
    """Bit flips, lines twice, files cut off: refused, or read as what the search wrote."""
    rng = random.Random(0)
    path = run / CANDIDATES
    whole, trials = path.read_bytes(), load_run(run).trials
    kinds = {trial.id: trial for trial in trials}
    accepted = 0
    for number in range(count):
        damaged = bytearray(whole)
        if number % 10 == 8:
            lines = whole.splitlines(keepends=True)
            damaged = bytearray(b"".join([*lines, rng.choice(lines[1:])]))
        elif number % 10 == 9:
            damaged = damaged[: rng.randrange(len(damaged))]
        else:
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            found: tuple[Trial, ...] = load_run(run).trials
        except FileFormatError:
            continue
        accepted += 1
        assert number % 10 >= 8, "no flipped bit is accepted"
        assert found == trials[: len(found)], "a file cut off has the candidates up to there"
        assert all(kinds[trial.id] == trial for trial in found)
    assert accepted <= count / 5
