"""Readers of files that anyone may have made: bounded, never an internal error, all mistakes at once."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from search_fakes import SMALL

from hwnas.errors import FileFormatError, HwnasError, SpaceError, UsageError
from hwnas.io import atomic
from hwnas.io import json as json_io
from hwnas.io import yaml as yaml_io
from hwnas.io.atomic import write_atomically, write_whole
from hwnas.io.files import read_bytes
from hwnas.io.lock import Busy, locked
from hwnas.predictors.latency import LatencyTable
from hwnas.space import ArchSpec, SearchSpace, preset
from hwnas.train.recipe import Recipe, read_recipe

READERS: dict[str, Callable[[Path], Any]] = {
    "arch": lambda path: ArchSpec.from_dict(yaml_io.read(path)),
    "space": SearchSpace.from_yaml,
    "recipe": lambda path: read_recipe(str(path)),
    "table": lambda path: LatencyTable.load(str(path)),
    "json": json_io.read,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_what_is_no_regular_file_is_refused_at_once(reader: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(HwnasError, match=r"file\.yaml"):
        READERS[reader](path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("? [1, 2]\n: 3\n", "a key must be a name"),
        ("? {a: 1}\n: 3\n", "a key must be a name"),
        ("a: {1: 2}", "a key must be a text, got 1 in line 1"),
        ("~: 2", "a key must be a text"),
        ("a: !!timestamp nonsense", "tags"),
        ("a: !!python/object:os.system x", "tags"),
        ("a: !!int abc", "tags"),
        ("!!set {a, b}", "tags"),
        ("a: 1" + "0" * 400, "whole number is at most"),
        ("a: 1" + "0" * 5000, "not valid YAML"),
        ("a: 2026-13-45", None),
        ("[" * 100, "nesting"),
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("[" + "1," * 400_000 + "1]", "values are read"),
        ("a: " + "\x00", "not valid YAML"),
    ],
)
def test_yaml_that_is_wrong_or_hostile_is_one_clear_error(text: str, said: str | None) -> None:
    if said is None:
        assert yaml_io.parse(text, source="s") == {"a": "2026-13-45"}
        return
    with pytest.raises(FileFormatError, match=f"^s: .*{said}"):
        yaml_io.parse(text, source="s")


@pytest.mark.parametrize(
    "text", ["{", "[" * 100_000, "NaN", "[1e999]", "-Infinity", '"\\ud800', "\xff", "", "1" * 5000]
)
def test_json_that_is_wrong_or_hostile_is_one_clear_error(text: str) -> None:
    with pytest.raises(FileFormatError, match="^s: not valid JSON"):
        json_io.parse(text.encode("latin-1"), source="s")


def test_reading_takes_memory_for_what_there_is_and_not_for_what_there_may_be(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"whole")
    assert read_bytes(tmp_path / "small", max_bytes=2**60) == b"whole"
    with pytest.raises(FileFormatError, match="at most 4 bytes are read, got 5"):
        read_bytes(tmp_path / "small", max_bytes=4)


def test_a_file_of_six_megabytes_is_refused_in_seconds(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_text("- [1, 2]\n" * 700_000)
    began = time.process_time()
    with pytest.raises(SpaceError, match="values are read"):
        SearchSpace.from_yaml(path)
    assert time.process_time() - began < 20


@pytest.mark.parametrize("reader", ["arch", "space", "recipe"])
def test_damaged_yaml_never_ends_as_an_internal_error(reader: str, tmp_path: Path) -> None:
    """2,000 mutations of each: bytes changed, cut, doubled, and tokens that parsers choke on."""
    whole = {
        "arch": preset("uniform-t").to_yaml(),
        "space": yaml.safe_dump(SMALL),
        "recipe": yaml_io.dump(Recipe(epochs=9, batch_size=8, lr=0.1).to_dict()),
    }[reader].encode()
    tokens = [b"? [a]\n: 1\n", b"!!timestamp ", b"!!binary ", b"<<: ", b"*a", b"&a ", b"{", b"[", b"1e999"]
    tokens += [b"9" * 400, b"-1", b"~", b"\xff", b"\t", b"- ", b".nan"]
    rng, path = random.Random(reader), tmp_path / "file.yaml"
    for _ in range(2000):
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            place = rng.randrange(len(damaged))
            match rng.randrange(4):
                case 0:
                    damaged[place] ^= 1 << rng.randrange(8)
                case 1:
                    del damaged[place : place + rng.randrange(20)]
                case 2:
                    damaged[place:place] = rng.choice(tokens)
                case 3:
                    damaged[place:place] = damaged[place : place + 30]
            damaged = damaged or bytearray(b"x")
        path.write_bytes(damaged)
        try:
            READERS[reader](path)
        except HwnasError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"depth": [50_000_000]}, "depth: must be from 0 to 64, got 50000000"),
        ({"width": [10**15]}, "width: must be from 1 to 4096"),
        ({"width": list(range(1, 400))}, "at most 256 choices"),
    ],
)
def test_a_space_is_bounded_by_what_its_numbers_mean(change: dict[str, Any], said: str) -> None:
    stages = [SMALL["stages"][0] | change, SMALL["stages"][1]]  # type: ignore[index,operator]
    with pytest.raises(SpaceError, match=said):
        SearchSpace.from_dict(SMALL | {"stages": stages})


def test_all_mistakes_of_a_space_are_reported_at_once() -> None:
    stages = [{"width": ["a"], "depth": [0.5], "layout": 3}, {"width": [64], "depths": [1]}]
    with pytest.raises(SpaceError) as error:
        SearchSpace.from_dict(SMALL | {"stages": stages, "resolution": [-1], "classes": 0})
    said = str(error.value)
    for place in (
        "stages[0].width",
        "stages[0].depth",
        "stages[0].layout",
        "stages[1]",
        "resolution",
        "classes",
    ):
        assert place in said


# --- writing and locking ----------------------------------------------------------------------


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "front.json"
    write_atomically(path, json.dumps([1]))
    write_atomically(path, json.dumps([2]))
    assert json.loads(path.read_text()) == [2]
    with pytest.raises(HwnasError, match="cannot be written"):
        write_atomically(tmp_path / "no folder" / "front.json", "x")
    assert [file.name for file in tmp_path.iterdir()] == ["front.json"]


def test_what_was_there_is_kept_as_the_one_before(tmp_path: Path) -> None:
    for content in ("one", "two", "three"):
        write_whole(tmp_path / "last", content, previous=tmp_path / "previous")
    assert (tmp_path / "last").read_text() == "three"
    assert (tmp_path / "previous").read_text() == "two"


def test_a_name_of_255_bytes_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 127)
    write_whole(path, "x")
    assert path.read_text() == "x"


def test_what_a_killed_writer_left_is_removed_and_what_others_write_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "_cleaned", set())
    dead, alive = ".front.json.4194304-0123abcd.partial", f".front.json.{os.getpid()}-0123abcd.partial"
    names = [dead, alive, ".front.json.0123abcd.partial", "mine.partial", ".notes.abc.partial"]
    for name in names:
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (0, 0))
    fresh = tmp_path / ".front.json.4194304-0123abce.partial"
    fresh.write_text("x")
    write_whole(tmp_path / "front.json", "y")
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {"front.json", alive, "mine.partial", ".notes.abc.partial", fresh.name}


def test_a_lock_is_held_by_one_and_what_is_left_of_a_dead_process_holds_nobody_up(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    file.write_text("4194304\n")
    with locked(file), pytest.raises(Busy), locked(file):
        pass
    with locked(file):
        pass
    with pytest.raises(HwnasError, match="cannot be locked"), locked(tmp_path / "no folder" / "lock"):
        pass


def test_a_file_system_without_locks_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import fcntl

    def unsupported(_file: int, _how: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with pytest.raises(HwnasError, match="cannot be locked.*local disk"), locked(tmp_path / "lock"):
        pass


def test_a_recipe_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_recipe(str(tmp_path / "r.yaml"))
