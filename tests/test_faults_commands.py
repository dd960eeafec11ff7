"""Faults around commands: errors between processes, user code, options in files, paths, terminals."""

from __future__ import annotations

import importlib
import io
import os
import pickle
import pkgutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

import hwnas
from hwnas.cli.narrow import fit
from hwnas.cli.os_errors import explained
from hwnas.errors import HwnasError, MissingOpError, UsageError
from hwnas.estimate import Estimate
from hwnas.foreign import called
from hwnas.paths import expanded, is_text
from hwnas.predictors.accuracy import FunctionPredictor
from hwnas.space import preset


def errors() -> list[type[HwnasError]]:
    for module in pkgutil.walk_packages(hwnas.__path__, "hwnas."):
        if module.name.split(".")[1] in ("errors", "measure", "train"):
            importlib.import_module(module.name)
    found, waiting = [], [HwnasError]
    while waiting:
        found.append(waiting.pop())
        waiting += found[-1].__subclasses__()
    return found


@pytest.mark.parametrize("kind", errors())
def test_every_error_reaches_another_process(kind: type[HwnasError]) -> None:
    error = kind("why", ("a", "b")) if kind is MissingOpError else kind("why")
    there = pickle.loads(pickle.dumps(error))
    assert type(there) is kind and str(there) == "why" and vars(there) == vars(error)


def exits() -> None:
    raise SystemExit(0)


def raises() -> None:
    raise BaseException("odd")


@pytest.mark.parametrize("function", [exits, raises, lambda: 1 / 0])
def test_whatever_user_code_raises_is_an_error_that_names_it(function: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match="my function"):
        called("my function", function)


def test_user_code_that_moves_prints_hangs_or_forks_leaves_the_command_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path.cwd()
    called("it", lambda: (os.chdir(tmp_path), print("hello")))
    assert Path.cwd() == before
    assert capsys.readouterr() == ("", "hello\n")
    with pytest.raises(UsageError, match="longer than"):
        called("it", time.sleep, 20, limit_s=0.05)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    child = called("it", os.fork)  # only the parent comes back
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    "answer",
    [
        *(-1.0, 171.0, float("nan"), True, "71", Estimate(50, unit="ms")),
        *(Estimate(50, low=60.0, high=40.0), Estimate(50, std=1e300), Estimate(1e308)),
    ],
)
def test_an_accuracy_that_cannot_be_is_refused(answer: object) -> None:
    with pytest.raises(UsageError):
        FunctionPredictor(lambda _: answer, "my:function").predict(preset("shvit-s1"))  # type: ignore[arg-type,return-value]


def test_a_standard_deviation_is_finite() -> None:
    with pytest.raises(ValueError, match="finite"):
        Estimate(1.0, std=float("inf"))


def test_a_home_folder_is_expanded_wherever_a_path_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/h")
    given = ["--out=~/x", "cifar10:~/d", "~", "~/a:~/b", "a~b", "x~", "/a/~/b", "zero-cost:~/d,side=3"]
    wanted = ["--out=/h/x", "cifar10:/h/d", "/h", "/h/a:/h/b", "a~b", "x~", "/a/~/b", "zero-cost:/h/d,side=3"]
    assert expanded(given) == wanted


def test_a_file_is_text_by_its_ending_in_any_case_or_its_content(tmp_path: Path) -> None:
    for name, content, text in (
        ("A.YAML", b"a: 1", True),
        ("a.json", b"{}", True),
        ("arch", b"a: 1", True),
        ("ckpt", b"\x08\0\0\0\0\0\0\0{}", False),
        ("a.safetensors", b"abc", False),
    ):
        (tmp_path / name).write_bytes(content)
        assert is_text(tmp_path / name) is text


@pytest.mark.parametrize("width", [60, 80])
def test_a_table_keeps_its_first_columns_readable(width: int) -> None:
    table = Table()
    for header in (
        "#",
        "id",
        "latency ms, estimated",
        "accuracy %, estimated",
        "attention",
        "params M",
        "MACs M",
    ):
        table.add_column(header, no_wrap=header != "attention")
    cells = ("12", "fadfffbbcacd", "19.88 (10.87 to 36.33)", "65.86 ± 0.56")
    table.add_row(*cells, "cascaded-group, reuse", "2.0", "73")
    fit(table, width)
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table)
    text = console.export_text()
    assert all(len(line) <= width for line in text.splitlines())
    for cell in cells:
        assert cell in text


@pytest.mark.parametrize(("number", "code"), [(28, 1), (13, 2), (30, 2), (36, 2), (24, 1), (9, 1)])
def test_a_refusal_of_the_system_says_what_to_do(number: int, code: int) -> None:
    text, exit_code = explained(OSError(number, os.strerror(number), "/some/file"))
    assert exit_code == code and text.startswith("/some/file: ") and text.count(": ") >= 2


def test_options_that_repeat_take_one_value_in_a_file(tmp_path: Path) -> None:
    from hwnas.cli import app

    command = app._command("train").commands["train"]
    file = tmp_path / "c.yaml"
    for value in ("epochs=1", ["epochs=1"], {"epochs": 1}):
        assert list(app._checked_options(file, "train", {"set": value}, command).values()) == [["epochs=1"]]
    with pytest.raises(UsageError, match="takes one value"):
        app._checked_options(file, "train", {"epochs": [1, 2]}, command)


@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
def test_an_accuracy_function_that_hangs_ends_the_search_after_its_time_limit(
    workers: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hwnas: Callable[..., Any]
) -> None:
    (tmp_path / "slow_accuracy.py").write_text("import time\n\n\ndef hangs(arch):\n    time.sleep(60)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    question = ("--device", "rpi4", "--budget", "20ms", "--accuracy", "slow_accuracy:hangs", "--trials", "3")
    began = time.monotonic()
    answer = hwnas("search", *question, "--evaluation-timeout", "0.2", *workers)
    assert answer.code == 2 and "took longer than 0.2 s" in answer.err
    assert time.monotonic() - began < 50
