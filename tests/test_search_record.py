"""The record: appended to only, whole after any kind of end."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from hwnas.errors import FileFormatError, HwnasError
from hwnas.io.jsonl import FLUSH_EVERY_S, Record, read_record, write_atomically


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_record_torn_at_any_byte_holds_its_whole_lines_and_takes_new_ones(tmp_path: Path) -> None:
    path = tmp_path / "candidates.jsonl"
    lines = [{"id": "ä" * 3, "n": 1}, {"id": "b", "n": 2}, {"id": "c", "n": 3}]
    with Record(path) as record:
        for line in lines:
            record.append(line)
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        kept = lines[: whole[:length].count(b"\n")]
        assert read_record(path) == kept
        assert path.read_bytes() == whole[:length], "reading changes nothing"
        with Record(path) as record:
            record.append({"id": "new"})
        assert read_record(path) == [*kept, {"id": "new"}]


def test_cheap_lines_wait_for_a_moment_and_a_line_after_slow_work_is_written_at_once(tmp_path: Path) -> None:
    clock = Clock()
    record = Record(tmp_path / "r", clock=clock)
    record.append({"n": 1})
    assert read_record(tmp_path / "r") == []
    clock.now += FLUSH_EVERY_S
    record.append({"n": 2})
    assert read_record(tmp_path / "r") == [{"n": 1}, {"n": 2}]
    record.close()


def test_a_line_that_is_no_candidate_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_text('{"n": 1}\nnonsense\n{"n": 3}\n')
    with pytest.raises(FileFormatError, match="line 2 is not a record"):
        read_record(path)


def test_a_full_disk_is_a_clear_error_and_what_was_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r"
    record = Record(path)
    record.append({"n": 1})
    record.flush()

    def full(_file: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("hwnas.io.jsonl.os.write", full)
        record.append({"n": 2})
        with pytest.raises(HwnasError, match="No space left on device.*stays valid"):
            record.flush()
    assert read_record(path) == [{"n": 1}]
    record.close()
    assert read_record(path) == [{"n": 1}, {"n": 2}]


def test_a_partial_write_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr("hwnas.io.jsonl.os.write", lambda file, data: real(file, bytes(data)[:3]))
    with Record(tmp_path / "r") as record:
        record.append({"n": 12345})
    assert read_record(tmp_path / "r") == [{"n": 12345}]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "front.json"
    write_atomically(path, json.dumps([1]))
    write_atomically(path, json.dumps([2]))
    assert json.loads(path.read_text()) == [2]
    with pytest.raises(HwnasError, match="cannot be written"):
        write_atomically(tmp_path / "no folder" / "front.json", "x")
    assert [file.name for file in tmp_path.iterdir()] == ["front.json"]
