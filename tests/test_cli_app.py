"""The command itself: help, exit codes, where options come from, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import pytest
import typer

from hwnas import __version__
from hwnas.cli import app
from hwnas.errors import (
    BoardError,
    FileFormatError,
    HwnasError,
    InfeasibleError,
    UnstableError,
    UsageError,
)

Run = Callable[..., Any]


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Puts a verb in the place of `report`, which notes how it was called."""
    calls: list[dict[str, Any]] = []

    def command(
        run: Annotated[str, typer.Argument()] = "none",
        trials: Annotated[int, typer.Option("--trials")] = 7,
        dry: Annotated[bool, typer.Option("--dry-run")] = False,
    ) -> None:
        calls.append({"run": run, "trials": trials, "dry": dry})

    module = ModuleType("hwnas.cli.report")
    module.command = command  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hwnas.cli.report", module)
    return calls


def failing_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def command() -> None:
        raise error

    module = ModuleType("hwnas.cli.report")
    module.command = command  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hwnas.cli.report", module)


def test_help_lists_every_verb_with_a_line(hwnas: Run) -> None:
    answer = hwnas("--help")
    assert (answer.code, answer.err) == (0, "")
    for verb, line in app.VERBS.items():
        assert f"  {verb} " in answer.out
        assert line in answer.out, "the line of a verb is cut off: shorten it"


def test_no_verb_at_all_is_answered_with_the_help(hwnas: Run) -> None:
    assert hwnas() == hwnas("--help")


def test_a_group_alone_is_answered_with_its_help(hwnas: Run) -> None:
    answer = hwnas("supernet")
    assert answer.code == 0
    assert "evaluate" in answer.out


def test_the_version_is_that_of_the_package(hwnas: Run) -> None:
    assert hwnas("--version").out == f"hwnas {__version__}\n"


def test_an_unknown_verb_is_answered_with_the_nearest(hwnas: Run) -> None:
    answer = hwnas("serch")
    assert answer.code == 2
    assert answer.err.startswith("error: ")
    assert "'search'" in answer.err


def test_an_unknown_option_is_answered_with_the_nearest(hwnas: Run, probe: list[dict[str, Any]]) -> None:
    answer = hwnas("report", "--trails", "3")
    assert answer.code == 2
    assert "--trials" in answer.err
    assert not probe


def test_a_value_of_the_wrong_kind_names_the_option(hwnas: Run, probe: list[dict[str, Any]]) -> None:
    answer = hwnas("report", "--trials", "many")
    assert answer.code == 2
    assert "--trials" in answer.err
    assert "valid integer" in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HwnasError("it went wrong"), 1),
        (UsageError("it went wrong"), 2),
        (InfeasibleError("it went wrong"), 3),
        (BoardError("it went wrong"), 4),
        (UnstableError("it went wrong"), 5),
        (FileFormatError("it went wrong"), 6),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, HwnasError) else str(value),
)
def test_a_deliberate_error_is_one_line_and_its_exit_code(
    hwnas: Run, monkeypatch: pytest.MonkeyPatch, error: HwnasError, code: int
) -> None:
    failing_with(monkeypatch, error)
    answer = hwnas("report")
    assert (answer.code, answer.out, answer.err) == (code, "", "error: it went wrong\n")


def test_an_unforeseen_error_is_one_line_that_says_how_to_see_more(
    hwnas: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_with(monkeypatch, ZeroDivisionError("division\nby zero"))
    answer = hwnas("report")
    assert answer.code == 1
    assert answer.err.count("\n") == 1
    assert "ZeroDivisionError: division by zero" in answer.err
    assert "HWNAS_TRACEBACK=1" in answer.err


def test_the_traceback_is_there_for_who_asks(hwnas: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_with(monkeypatch, ZeroDivisionError("division by zero"))
    monkeypatch.setenv("HWNAS_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        hwnas("report")


def test_ctrl_c_exits_with_130(hwnas: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_with(monkeypatch, KeyboardInterrupt())
    assert hwnas("report").code == 130


def test_sigterm_interrupts_the_work_and_exits_with_143(hwnas: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []

    def command() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        except KeyboardInterrupt:
            saved.append("work")
            raise

    module = ModuleType("hwnas.cli.report")
    module.command = command  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hwnas.cli.report", module)
    before = signal.getsignal(signal.SIGTERM)
    assert hwnas("report").code == 143
    assert saved == ["work"]
    assert signal.getsignal(signal.SIGTERM) == before


# --- flag > environment > file > default --------------------------------------------------------


def test_a_default_stands_where_nothing_is_said(hwnas: Run, probe: list[dict[str, Any]]) -> None:
    assert hwnas("report").code == 0
    assert probe == [{"run": "none", "trials": 7, "dry": False}]


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "house.yaml"
    file.write_text("report: {run: from-file, trials: 10, dry-run: true}\nsearch: {device: rpi4}\n")
    return str(file)


@pytest.mark.parametrize("where", ["before", "after", "equals"])
def test_a_file_wins_over_the_default(
    hwnas: Run, probe: list[dict[str, Any]], config: str, where: str
) -> None:
    arguments = {
        "before": ("--config", config, "report"),
        "after": ("report", "--config", config),
        "equals": ("report", f"--config={config}"),
    }[where]
    assert hwnas(*arguments).code == 0
    assert probe == [{"run": "from-file", "trials": 10, "dry": True}]


def test_the_environment_wins_over_the_file_and_a_flag_over_both(
    hwnas: Run, probe: list[dict[str, Any]], config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_REPORT_TRIALS", "11")
    hwnas("report", "--config", config)
    hwnas("report", "--config", config, "--trials", "12")
    assert [call["trials"] for call in probe] == [11, 12]


def test_the_file_itself_may_come_from_the_environment(
    hwnas: Run, probe: list[dict[str, Any]], config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_CONFIG", config)
    hwnas("report")
    assert probe[0]["trials"] == 10


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("report: {trails: 10}", "no option 'trails'. Did you mean 'trials'?"),
        ("reprot: {trials: 10}", "no verb 'reprot'. Did you mean 'report'?"),
        ("report: 10", "must map options to values"),
        ("- report", "must map verbs to options"),
        ("report: {trials: 10", "not valid YAML"),
        ("report: {trials: many}", "'--trials': Input should be a valid integer"),
    ],
)
def test_a_mistake_in_the_file_is_named(
    hwnas: Run, probe: list[dict[str, Any]], tmp_path: Path, text: str, complaint: str
) -> None:
    file = tmp_path / "house.yaml"
    file.write_text(text)
    answer = hwnas("report", "--config", str(file))
    assert answer.code == 2
    assert complaint in answer.err
    assert answer.err.count("\n") == 1
    assert not probe


def test_a_file_that_is_not_there_is_named(hwnas: Run, probe: list[dict[str, Any]]) -> None:
    answer = hwnas("report", "--config", "absent.yaml")
    assert answer.code == 2
    assert "absent.yaml" in answer.err


# --- in a process of its own ----------------------------------------------------------------


def start(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "hwnas", *arguments]


def test_a_reader_that_leaves_is_no_error() -> None:
    process = subprocess.Popen(start("models"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 141
    assert said == b""


def test_a_table_off_a_terminal_has_no_colour_and_no_column_cut() -> None:
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    environment.pop("COLUMNS", None)
    done = subprocess.run(start("models"), capture_output=True, text=True, check=True, env=environment)
    assert "\x1b" not in done.stdout
    assert "…" not in done.stdout
    assert "uniform-m-table4" in done.stdout


def test_json_is_the_whole_of_stdout() -> None:
    done = subprocess.run(start("models", "--json"), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["schema"] == 1
    assert done.stderr == ""


def test_the_earlier_name_of_accelerator_works_with_a_note(hwnas: Callable[..., Any]) -> None:
    answer = hwnas("evaluate", "nowhere", "--data", "nowhere", "--device", "cpu")
    assert answer.code == 2 and "no such checkpoint" in answer.err
    assert answer.err.startswith("note: --device is called --accelerator here")
    other = hwnas("describe", "uniform-t", "--device", "rpi4")
    assert other.code == 0 and "note: --device" not in other.err


def test_a_shell_gets_the_verbs_and_the_options_of_a_verb(
    hwnas: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_HWNAS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "hwnas sea")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert hwnas().out.split() == ["search"]
    monkeypatch.setenv("COMP_WORDS", "hwnas train --acc")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert hwnas().out.split() == ["--accelerator"]
