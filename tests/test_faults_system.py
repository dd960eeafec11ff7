"""Faults of the system: signals, limits, outputs, names, permissions; and code that a run names."""

from __future__ import annotations

import ast
import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from latency_fakes import FakeLink
from search_commands import QUESTION, furnish
from search_fakes import small_space, table
from test_latency_build import build, small_plan
from train_samples import ARCH, squares

import hwnas.cli
from hwnas.cli import app, common, table_building, training
from hwnas.cli.app import VERBS, _command, main
from hwnas.errors import HwnasError, UsageError
from hwnas.io import json as json_io
from hwnas.io import yaml as yaml_io
from hwnas.io.folders import claimed, next_numbered, numbered
from hwnas.search import load_run, resume, search
from hwnas.search.candidates import CANDIDATES
from hwnas.text import plain

ROOT = Path(__file__).resolve().parents[1]
PATHS = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
OWN = ("--space", "small.yaml", "--accuracy", "search_fakes:by_size", "--trials", "5")
"""What is searched quickly."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return furnish(tmp_path)


def shell(place: Path, line: str, *, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """A line of bash in that folder, whose Pythons have this hwnas."""
    return subprocess.run(
        ["bash", "-c", line],
        cwd=place,
        env=os.environ | {"PYTHONPATH": PATHS, "HWNAS_TABLES": str(place / "tables")},
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )


def python(place: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Python in that folder, with this hwnas; killed after a minute."""
    environment = os.environ | {
        "HWNAS_TABLES": str(place / "tables"),
        "PYTHONPATH": PATHS,
        **options.pop("env", {}),
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=place,
        env=environment,
        capture_output=options.get("stdout") is None,
        text=True,
        timeout=60,
        **options,
    )


# --- names chosen by several at once ----------------------------------------------------------


def test_commands_that_choose_a_folder_at_once_get_one_each(tmp_path: Path) -> None:
    """Sixteen at once, four times each; those who write nothing leave nothing."""
    chosen: list[Path] = []
    start = threading.Barrier(16)

    def work(keeps: bool) -> None:
        start.wait()
        for _ in range(4):
            with claimed(lambda: next_numbered(tmp_path / "runs", "a")) as folder:
                chosen.append(folder)
                (folder / "file").touch()
                time.sleep(0.001)
                if not keeps:
                    (folder / "file").unlink()

    threads = [threading.Thread(target=work, args=(number % 2 == 0,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(chosen) == 64
    kept = list((tmp_path / "runs").iterdir())
    assert len(kept) == 32 and all((folder / "file").exists() for folder in kept)


def test_numbers_are_read_from_names_of_that_stem_only(tmp_path: Path) -> None:
    for name in ("a-1", "a-3", "a-x", "a-b-7", "b-9", "a-٣"):
        (tmp_path / name).mkdir()
    assert numbered(tmp_path, "a") == [1, 3]
    assert next_numbered(tmp_path, "a") == tmp_path / "a-4"
    assert next_numbered(tmp_path / "none", "a") == tmp_path / "none" / "a-1"


@pytest.mark.parametrize(
    "words",
    [
        ("search", "--device", "rpi4", "--budget", "0.0001ms"),
        ("train", "uniform-t", "--data", "no-such-folder"),
        ("train-many", "uniform-t", "--data", "no-such-folder"),
        ("supernet", "train", "--data", "no-such-folder"),
        ("dense", "train", "uniform-t", "--task", "detect", "--data", "no-such-folder"),
    ],
)
def test_a_refused_command_leaves_no_folder_behind(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hwnas: Callable[..., Any]
) -> None:
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    answer = hwnas(*words)
    assert answer.code in (2, 3), answer.err
    assert list(tmp_path.iterdir()) == []


def test_several_processes_of_one_training_must_be_told_their_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="name it with --out"):
        training.training_folder(None, None, "a", resume=False)  # type: ignore[arg-type]
    assert training.training_folder(None, "b", "a", resume=False) == Path("b")  # type: ignore[arg-type]


def say_it_used(run: Path, reference: str) -> None:
    """Lets a run say that it estimated accuracy with that function, its checksum right."""
    data = yaml_io.read(run / "run.yaml")
    data.pop("checksum")
    data["config"]["accuracy"] = reference
    (run / "run.yaml").write_text(yaml_io.dump({**data, "checksum": json_io.checksum(data)}))


# --- code that a run names --------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--resume", "--from"])
def test_a_function_that_a_run_names_is_imported_only_when_it_is_named_again(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hwnas: Callable[..., Any]
) -> None:
    run = tmp_path / "run"
    search(small_space(), device=table(), budget_ms=0.9, accuracy="search_fakes:by_size", trials=3, out=run)
    name = f"code_of_others_{flag[2:]}"
    say_it_used(run, f"{name}:by_size")
    (run / CANDIDATES).unlink()
    (tmp_path / f"{name}.py").write_text(
        "import pathlib\nfrom search_fakes import by_size\npathlib.Path('it-ran').touch()\n"
    )
    (tmp_path / "tables").mkdir()
    table().save(tmp_path / "tables" / "toy.yaml")
    monkeypatch.setenv("HWNAS_TABLES", str(tmp_path / "tables"))
    monkeypatch.chdir(tmp_path)
    words = ["search", flag, "run", "--trials", "4", *(["--out", "new"] if flag == "--from" else [])]
    answer = hwnas(*words)
    assert answer.code == 2
    assert f"--accuracy {name}:by_size" in answer.err
    assert not (tmp_path / "it-ran").exists() and name not in sys.modules
    answer = hwnas(*words, "--accuracy", f"{name}:by_size")
    assert answer.code == 0, answer.err
    assert (tmp_path / "it-ran").exists()


def test_the_place_in_user_code_is_shown_to_who_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hwnas: Callable[..., Any]
) -> None:
    (tmp_path / "failing_accuracy.py").write_text("def f(arch):\n    return 1 / 0  # here\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = (
        "search",
        "--device",
        "rpi4",
        "--budget",
        "20ms",
        "--accuracy",
        "failing_accuracy:f",
        "--trials",
        "2",
    )
    answer = hwnas(*words)
    assert answer.code == 2 and answer.err.count("\n") == 1 and "ZeroDivisionError" in answer.err
    monkeypatch.setenv("HWNAS_TRACEBACK", "1")
    assert "failing_accuracy.py" in hwnas(*words).err


@pytest.mark.parametrize("reference", ["os:getcwd", "json.tool:main", "builtins:print"])
def test_modules_of_python_itself_are_not_taken_from_a_run_either(tmp_path: Path, reference: str) -> None:
    run = tmp_path / "run"
    search(small_space(), device=table(), budget_ms=0.9, accuracy="search_fakes:by_size", trials=3, out=run)
    say_it_used(run, reference)
    (run / CANDIDATES).unlink()
    with pytest.raises(UsageError, match="only imported when you name it"):
        resume(run, device=table())


def test_a_script_without_a_guard_is_told_so_and_starts_no_more_processes(place: Path) -> None:
    """Each worker is a fresh Python that imports the script."""
    (place / "script.py").write_text(
        "import pathlib\nfrom hwnas.search import search\n"
        "pathlib.Path('starts').open('a').write('x')\n"
        "options = {'accuracy': 'search_fakes:slow', 'trials': 4, 'workers': 2, 'out': 'run'}\n"
        "search(device='rpi4', budget_ms=20.0, **options)\n"
    )
    done = python(place, "script.py")
    assert done.returncode == 1
    assert 'below a line `if __name__ == "__main__":`' in done.stderr
    assert len((place / "starts").read_text()) <= 3
    assert not (place / "run" / "run.yaml").exists()  # no empty run is left


@pytest.mark.parametrize("what", ["search", "resume"])
def test_a_process_that_only_imports_the_script_does_no_work(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(UsageError, match="only imports it"):
        if what == "search":
            search(small_space(), device=table(), budget_ms=0.9, trials=3, out=tmp_path / "run")
        else:
            resume(tmp_path / "run")


# --- signals ----------------------------------------------------------------------------------


def every_command() -> Iterator[tuple[str, ...]]:
    for verb in VERBS:
        found = _command(verb).commands[verb]
        names = getattr(found, "commands", {})
        yield from ((verb, name) for name in names) if names else [(verb,)]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_terminal_that_goes_away_interrupts_every_verb_as_sigterm_does(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a verb does about Ctrl-C, as saving, it does about both: they arrive as KeyboardInterrupt."""
    saved = []
    real = app._command

    def work(*_: Any, **__: Any) -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        except KeyboardInterrupt:
            saved.append(1)
            raise

    for words in every_command():

        def replaced(verb: str | None, words: tuple[str, ...] = words) -> Any:
            found = real(verb)
            command = found
            for word in words:
                command = command.commands[word]
            command.callback = work
            for parameter in command.params:
                parameter.required = False
            return found

        monkeypatch.setattr(app, "_command", replaced)
        assert main(words) == 128 + number, words
    assert len(saved) == len(list(every_command())) > 20
    assert "Traceback" not in capsys.readouterr().err


def test_a_signal_that_is_ignored_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        monkeypatch.setattr(app, "_run", lambda arguments: os.kill(os.getpid(), signal.SIGHUP) or 0)
        assert main(["doctor"]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_training_keeps_its_last_epoch_when_the_terminal_goes_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hwnas: Callable[..., Any]
) -> None:
    pytest.importorskip("torch")
    squares(tmp_path / "data")
    (tmp_path / "net.yaml").write_text(yaml_io.dump(ARCH.to_dict()))
    monkeypatch.chdir(tmp_path)
    shown = training.Terminal.epoch

    def hang_up(self: training.Terminal, record: Any) -> None:
        shown(self, record)
        os.kill(os.getpid(), signal.SIGHUP)

    monkeypatch.setattr(training.Terminal, "epoch", hang_up)
    words = ("train", "net.yaml", "--data", "data", "--recipe", "small", "--epochs", "3", "--batch", "12")
    answer = hwnas(*words, "--image-size", "16", "--workers", "0")
    assert answer.code == 129, answer.err
    assert "the last finished epoch is kept" in answer.err and "--resume" in answer.err
    assert (tmp_path / "trainings/net-1/last.safetensors").exists()


LOADING = """
import os, signal, sys
from hwnas.data.loader import Augmentation, training_batches
from hwnas.data.sources import open_images
images = open_images(sys.argv[1])
batches = training_batches(
    images, images.split("train"), images.classes(), Augmentation(), size=16, batch_size=4, seed=1, workers=1
)
for batch in batches.epoch(1):
    if sys.argv[2] == "error":
        raise ValueError("loss is nan")
    os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.parametrize(("how", "code"), [("error", 1), ("ctrl-c", -signal.SIGINT)])
def test_a_process_with_loader_processes_ends_after_an_error_and_after_ctrl_c(
    how: str, code: int, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    squares(tmp_path / "data")
    (tmp_path / "script.py").write_text(LOADING)
    done = python(tmp_path, "script.py", "data", how)
    assert done.returncode in (code, 130 if how == "ctrl-c" else code), done.stderr


# --- limits of the system ---------------------------------------------------------------------


@pytest.mark.parametrize("kib", [100_000, 200_000, 300_000, 400_000])
def test_a_memory_limit_ends_a_search_at_once_and_says_so(kib: int, place: Path) -> None:
    words = f"search {' '.join(QUESTION)} --trials 5 --out run"
    began = time.monotonic()
    done = shell(place, f"ulimit -v {kib}; exec {sys.executable} -m hwnas {words}", timeout_s=100)
    assert time.monotonic() - began < 60
    assert done.returncode == 1, done.stderr
    assert "memory" in done.stderr and "ulimit -v" in done.stderr and "Traceback" not in done.stderr
    assert not (place / "run").exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        ImportError("libopenblas.so: failed to map segment from shared object"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        RuntimeError("can't start new thread"),
    ],
)
def test_memory_that_is_used_up_is_said_whoever_finds_out(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(_: object) -> int:
        raise error

    monkeypatch.setattr(app, "_run", work)
    assert main(["doctor"]) == 1
    assert capsys.readouterr().err.startswith("error: out of memory. What was saved stays valid")


@pytest.mark.parametrize("files", [8, 12, 16, 24])
def test_few_open_files_are_a_clear_error(files: int, place: Path) -> None:
    words = "describe uniform-t --device toy --json"
    done = shell(place, f"ulimit -n {files}; exec {sys.executable} -m hwnas {words}")
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr
    assert json.loads(done.stdout) if done.returncode == 0 else "open files" in done.stderr


def test_a_disk_that_fills_up_ends_a_table_build_which_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, room = os.write, 3000

    def write(file: int, data: bytes) -> int:
        nonlocal room
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real(file, bytes(data)[:room])
        room -= written
        return written

    plan, samples = small_plan(), tmp_path / "s"
    with monkeypatch.context() as patch:
        patch.setattr("hwnas.io.jsonl.os.write", write)
        with pytest.raises(HwnasError, match="No space left on device.*stays valid"):
            build(plan, FakeLink(), samples)
    link = FakeLink()
    resumed = build(plan, link, samples, resume=True)
    assert resumed.rows == build(plan, FakeLink(), tmp_path / "other").rows
    assert link.timings < plan.cells


def test_a_table_that_does_not_fit_on_the_disk_keeps_its_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full:
        def save(self, path: Path) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def work(samples: Path, _: object) -> Any:
        samples.write_text("measured")
        return Full()

    monkeypatch.setattr(sys, "argv", ["hwnas", "table", "build", "--name", "x"])
    with pytest.raises(OSError, match="No space left"):
        table_building.build_and_save("x", tmp_path, work)
    assert (tmp_path / "x.samples.part").read_text() == "measured"
    assert "--name x --resume" in capsys.readouterr().err


# --- outputs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("output", [">&-", "> /dev/full"])
@pytest.mark.parametrize("errors", ["", "2>&-", "2> /dev/full"])
def test_a_closed_or_full_output_is_a_clear_error_and_loses_nothing(
    output: str, errors: str, place: Path
) -> None:
    words = "search --device toy --budget 0.9ms --space small.yaml --accuracy search_fakes:by_size"
    words += " --trials 5 --out run"
    done = shell(place, f"{sys.executable} -m hwnas {words} {output} {errors}")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr
    assert errors or "error: " in done.stderr
    assert load_run(place / "run").is_complete


def test_an_ascii_output_loses_nothing(place: Path) -> None:
    environment = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    words = ("-m", "hwnas", "search", "--device", "toy", "--budget", "0.9ms", *OWN)
    done = python(place, *words, "--out", "lauf-é", env=environment)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "networks within" in done.stdout


def test_what_steers_a_terminal_is_removed_from_all_that_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b]0;owned\x07a\x1b[2J\x1b[1;31mb\x9b0m\x08\r\u202ec\x00é\n\td"
    assert plain(evil) == "abcé\n\td"
    assert plain("x" * 9, most=4) == "xxxx..."
    from rich.table import Table

    rows = Table(title=evil)
    rows.add_column(evil)
    rows.add_row(evil)
    common.stdout().print(evil)
    common.stdout().print(rows)
    common.say(evil)
    common.write_out(evil)
    common.write_err(evil)
    error = {"type": "UsageError", "message": evil, "exit_code": 2}
    common.emit_json({"schema": 1, "error": error})
    main(["describe", evil])
    said = capsys.readouterr()
    assert not set("\x1b\x07\x08\r\x9b\u202e\0") & set(said.err)
    shown, brace, document = said.out.partition("{")
    assert not set("\x1b\x07\x08\r\x9b\u202e\0") & set(shown)
    assert not set("\x1b\x07\x08\r\x9b\0") & set(document)
    assert json.loads(brace + document)["error"]["message"] == evil


def test_every_verb_writes_through_the_same_few_functions() -> None:
    """Only these files write to a stream themselves."""
    allowed = {"app.py", "common.py", "streams.py", "renamed.py"}
    for file in Path(hwnas.cli.__file__).parent.glob("*.py"):
        if file.name in allowed:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "write":
                assert ast.unparse(node.value) not in ("sys.stdout", "sys.stderr"), file.name
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) != "print", file.name


# --- names and permissions --------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("search", "--device", "rpi4", "--budget", "20ms", "--trials", "3", "--out", "x" * 300),
        ("search", "--resume", "x" * 300),
        ("describe", "x" * 300),
        ("describe", "y/" + "x" * 300 + ".yaml"),
        ("report", "x" * 300),
        ("train", "x" * 300 + ".yaml", "--data", "d"),
        ("train", "uniform-t", "--data", "x" * 300),
        ("export", "x" * 300, "--out", "m.onnx"),
        ("measure", "x" * 300 + ".onnx"),
        ("predict", "x" * 300 + ".onnx", "a.jpg"),
        ("table", "check", "x" * 300 + ".yaml"),
        ("space", "describe", "x" * 300 + ".yaml"),
        ("space", "new", "x" * 300 + ".yaml"),
        ("compare", "x" * 300, "b"),
        ("--config", "x" * 300, "models"),
    ],
)
def test_a_name_that_is_too_long_is_a_clear_error(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hwnas: Callable[..., Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = hwnas(*words)
    assert answer.code in (2, 6), answer.err
    assert answer.err.startswith("error: ") and "internal error" not in answer.err


def test_a_name_that_is_not_utf_8_works_in_every_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hwnas: Callable[..., Any]
) -> None:
    """Where it must be recorded as text, it is a clear error before the work."""
    odd = os.fsdecode(b"caf\xe9")
    (tmp_path / odd).mkdir()
    table().save(tmp_path / odd / "toy.yaml")
    (tmp_path / odd / "small.yaml").write_text(yaml_io.dump(small_space().to_dict()))
    monkeypatch.chdir(tmp_path / odd)
    words = ("--budget", "0.9ms", "--space", f"../{odd}/small.yaml", *OWN[2:])
    answer = hwnas("search", "--device", f"../{odd}/toy.yaml", *words, "--out", "other")
    assert answer.code == 2 and "not UTF-8" in answer.err and "Rename" in answer.err
    assert not Path("other").exists()
    answer = hwnas("search", "--device", "./toy.yaml", *words, "--out", f"../{odd}/run")
    assert answer.code == 0, answer.err
    shutil.copytree(f"../{odd}/run", f"../{odd}/other")
    for more in (
        ("search", "--resume", f"../{odd}/run", "--trials", "6"),
        ("search", "--resume", f"../{odd}/run", "--trials", "6", "--json"),
        ("report", f"../{odd}/run"),
        ("describe", f"../{odd}/run#1", "--device", f"../{odd}/toy.yaml", "--json"),
        ("compare", f"../{odd}/run", f"../{odd}/other"),
        ("devices",),
    ):
        answer = hwnas(*more)
        assert answer.code == 0, (more, answer.err)


NOBODY = 65534


@pytest.fixture
def unprivileged(place: Path) -> Iterator[Callable[[], None]]:
    """What makes a child somebody who may not write; where tests run as such a user already, nothing."""
    if os.geteuid():
        yield lambda: None
        return
    yield lambda: os.setresuid(NOBODY, NOBODY, NOBODY)


def test_a_run_that_cannot_be_written_is_shown_and_not_resumed(
    unprivileged: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a child that is another user, because root may write anything."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        here = Path(folder)
        here.chmod(0o755)
        run = here / "run"
        search(
            small_space(), device=table(), budget_ms=0.9, accuracy="search_fakes:by_size", trials=9, out=run
        )
        table().save(here / "toy.yaml")
        for entry in (run, *run.iterdir()):
            entry.chmod(0o555 if entry.is_dir() else 0o444)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            code = 99
            try:
                unprivileged()
                os.dup2(writing, 2)
                sys.stderr = os.fdopen(2, "w", closefd=False)
                sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
                os.chdir(here)
                os.environ["HWNAS_TABLES"] = str(here)
                import search_fakes

                calls = []
                search_fakes.by_size = lambda arch: calls.append(arch) or 50.0  # type: ignore[assignment]
                again = ("search", "--resume", "run", "--trials", "12")
                codes = [main(again), main(("describe", "run#1")), main(("report", "run"))]
                sys.stderr.write(f"codes {codes}, {len(calls)} evaluated\n")
                sys.stderr.flush()
                code = 0
            finally:
                os._exit(code)
        os.close(writing)
        with os.fdopen(reading) as said:
            err = said.read()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, err
        assert "Traceback" not in err and "internal error" not in err
        assert "codes [2, 0, 2], 0 evaluated" in err, err
        assert "cannot be written" in err or "must be writable" in err, err
        for entry in (run, *run.iterdir()):
            entry.chmod(0o755)
        shutil.rmtree(run)
