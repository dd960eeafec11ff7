"""The commands of experiments/hard_use: what they find is there, and what they try ends as it should."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "experiments" / "hard_use"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"hard_use_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # for its dataclasses
    spec.loader.exec_module(module)
    return module


def run(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- kills --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_work_that_is_killed_at_random_moments_and_resumed_has_the_same_result() -> None:
    """Searches, table builds and trainings have such tests in their own files."""
    pytest.importorskip("torch")
    said = run("kills", "table-transfer", "supernet", "dense", "export", "--kills", "1", "--seed", "5")
    assert said.count("1 kills, ") == 4


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("work", script("kills").WORK)
def test_work_that_is_killed_twenty_times_has_the_same_result(work: str) -> None:
    run("kills", work, "--kills", "20")


# --- fuzzing ------------------------------------------------------------------------------------


@pytest.fixture
def fuzz(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, whose reader `sample` reads one text."""
    import fuzz_readers

    def read(folder: Path) -> object:
        from hwnas.errors import FileFormatError

        content = (folder / "file").read_bytes()
        if b"k" not in content:
            raise FileFormatError("no k")
        return content.decode()  # leaks an error for what is not UTF-8

    def make(folder: Path) -> None:
        (folder / "file").write_bytes(b"k" * 40)

    reader = fuzz_readers.Reader(make, ("file",), read, True)
    monkeypatch.setitem(fuzz_readers.READERS, "sample", reader)
    return script("fuzz")


def test_crashes_and_silent_changes_are_counted_and_can_be_had_again(fuzz: ModuleType) -> None:
    found = fuzz.tried("sample", seed=0, inputs=120, minutes=None)
    assert found["inputs"] == 120 and found["hangs"] == 0
    assert found["crashes"] > 5 and found["silent"] > 20
    crash = next(fault for fault in found["faults"] if fault["what"] == "crash")
    assert "UnicodeDecodeError at test_hard_use.py" in crash["more"]
    again = fuzz.tried("sample", seed=0, inputs=1, minutes=None, only=crash["first_input"])
    assert (again["inputs"], again["crashes"]) == (1, 1)


# --- mutants ------------------------------------------------------------------------------------

MODULE = '''
"""A module."""
from dataclasses import dataclass

LEAST = 3

@dataclass(frozen=True)
class A:
    """A class."""
    x: int = 5

def f(a: int, b: int = 1) -> bool:
    """What it does."""
    if a < b and not a == LEAST:
        raise ValueError("no")
    return a + b
'''


def test_a_mutant_differs_in_one_place_of_the_code_and_never_in_words_or_types() -> None:
    mutants = script("mutants")
    changes = [mutants.mutant(MODULE, number, kind) for number, kind in mutants.places(MODULE)]
    assert len({text for text, _ in changes}) == len(changes) == 11
    said = "\n".join(what for _, what in changes)
    for change in (
        "a < b -> a <= b",
        "a + b -> a - b",
        "3 -> 4",
        "5 -> 6",
        "1 -> 2",
        "return a + b -> return None",
    ):
        assert change in said
    assert all('"""What it does."""' in text and "frozen=True" in text for text, _ in changes)
    assert sum("ValueError" not in text for text, _ in changes) == 1


# --- soak ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_searches_one_after_the_other_leave_no_file_open(tmp_path: Path) -> None:
    run("soak", "searches", "--count", "3", "--out", str(tmp_path / "soak.json"))
    found = json.loads((tmp_path / "soak.json").read_text())
    assert [point["done"] for point in found["curve"]] == [1, 2, 3]
    assert len({point["open_files"] for point in found["curve"]}) == 1
    assert found["rss_mib"]["last"] < found["rss_mib"]["first"] + 100
