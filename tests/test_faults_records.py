"""Files that are read back: no number that cannot be is taken, nothing damaged is listed."""

from __future__ import annotations

import copy
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hwnas.errors import FileFormatError
from hwnas.estimate import Estimate
from hwnas.export import card_program
from hwnas.predictors.latency import LatencyTable, measurements, read_summary, runtime_versions
from hwnas.predictors.latency.locate import table_folders
from hwnas.search.verification import Corrected, MeasuredCandidate, Verification, read_verification
from hwnas.supernet.calibration import Calibration
from hwnas.tune.record import RECORD, read_states

ROOT = Path(__file__).parents[1]


# --- numbers in JSON files --------------------------------------------------------------------


def verification(folder: Path) -> Path:
    Verification(
        most=3,
        candidates=5,
        profile={"board": "b"},
        environment={},
        started="2026-11-21T10:00:00Z",
        measured=(MeasuredCandidate("a" * 12, 1, (2.0, 2.1), 2.2, 1.0, Estimate(2.0, unit="ms")),),
        correction=Corrected("one factor", 1.1, {}, 5.0, 2.0),
        corrected={"a" * 12: Estimate(2.2, unit="ms")},
        front=("a" * 12,),
    ).write(folder)
    return folder / "verification.json"


def measured(folder: Path) -> Path:
    row = measurements.Measurement(
        "a" * 12, 2.0, 1.9, 2.1, "2026-11-21T16:00:00Z", "b", "onnxruntime", "1.20", "cpu", 1, 1, "fp32"
    )
    return measurements.record(folder, [row])


def calibrated(folder: Path) -> Path:
    return Calibration(90.0, 20.0, 1.5, 8).write(folder, 0)


def checks(folder: Path) -> Path:
    table = LatencyTable.load(str(ROOT / "latency_tables/rpi4.yaml"))
    check = runtime_versions.VersionCheck("1.20", 8, 3.0, "2026-11-30")
    return runtime_versions.record_check(table, check, folder)


FILES: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any]]] = {
    "verification.json": (verification, lambda file: read_verification(file.parent)),
    "measurements.json": (measured, lambda file: measurements.recorded(file.parent, "a" * 12)),
    "rpi4.checks.json": (checks, runtime_versions._read),
    "calibration.json": (calibrated, lambda file: Calibration.read(file.parent, 0)),
}


ALLOWED = {("intercept", "-1"), *((version, "true") for version in ("format", "version", "schema"))}
"""What a line at a loss of 0 may be, and True, which is 1 to Python."""


def numbers(data: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all numbers."""
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from numbers(value, (*at, key))
    elif isinstance(data, int | float) and not isinstance(data, bool):
        yield at


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e400", "-1", "-1e300", '"fast"', "[1]", "true"]
)
def test_a_number_that_cannot_be_is_refused_in_every_file(name: str, number: str, tmp_path: Path) -> None:
    make, read = FILES[name]
    file = make(tmp_path)
    read(file)
    whole = json.loads(file.read_text())
    places = list(numbers(whole))
    assert len(places) > 2
    for place in places:
        if (place[-1], number) in ALLOWED:
            continue
        damaged = copy.deepcopy(whole)
        holder = damaged
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = "\0"
        file.write_text(json.dumps(damaged).replace('"\\u0000"', number))
        with pytest.raises(FileFormatError, match=name.replace(".", r"\.")):
            read(file)
            raise AssertionError(f"{place} = {number} was read")


def test_a_record_of_trainings_knows_its_states_only(tmp_path: Path) -> None:
    for states in ({"a": "won"}, {"a": 1}, {"a": float("nan")}, [], None):
        (tmp_path / RECORD).write_text(json.dumps({"schema": 1, "states": states}))
        if states == []:
            assert read_states(tmp_path) == {}
            continue
        with pytest.raises(FileFormatError, match="contest"):
            read_states(tmp_path)


# --- tables that are listed -------------------------------------------------------------------


@pytest.fixture
def own_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tables").mkdir()
    monkeypatch.setenv("HWNAS_TABLES", str(tmp_path / "tables"))
    assert table_folders()[0] == tmp_path / "tables"
    return tmp_path / "tables"


@pytest.mark.parametrize("sealed", [True, False])
def test_a_damaged_table_is_not_listed_as_a_device(
    own_tables: Path, sealed: bool, hwnas: Callable[..., Any]
) -> None:
    """A bit of the head alone has flipped, of a table as it is written today and as it was before."""
    file = own_tables / "mine.yaml"
    LatencyTable.load(str(ROOT / "latency_tables/rpi4.yaml")).save(file)
    text = file.read_text()
    assert text.startswith("# sha256 of what follows: ")
    text = text if sealed else text.partition("\n")[2]
    file.write_text(text)
    assert read_summary(file).profile.threads == 4 or read_summary(file).profile.threads == 1
    assert any(device["name"] == "mine" for device in json.loads(hwnas("devices", "--json").out)["devices"])
    file.write_text(text.replace("threads: 1", "threads: 3").replace("threads: 4", "threads: 3"))
    answer = hwnas("devices", "--json")
    assert all(device["name"] != "mine" for device in json.loads(answer.out)["devices"])
    assert "warning: left out" in answer.err and "mine.yaml" in answer.err and "checksum" in answer.err


def test_what_lies_among_the_tables_and_is_none_is_named(own_tables: Path, hwnas: Callable[..., Any]) -> None:
    (own_tables / "dir.yaml").mkdir()
    (own_tables / "._rpi4.yaml").write_bytes(b"\0\5\x16\7")
    answer = hwnas("devices")
    assert answer.code == 0
    for name in ("dir.yaml", "._rpi4.yaml"):
        assert answer.err.count(f"{own_tables / name}: not a table's file") == 1


def test_a_table_that_stands_for_a_shipped_one_is_named(own_tables: Path, hwnas: Callable[..., Any]) -> None:
    shutil.copy(ROOT / "latency_tables/rpi4.yaml", own_tables / "rpi4.yaml")
    answer = hwnas("devices")
    assert f"rpi4 is the table {own_tables / 'rpi4.yaml'}, not the one that ships" in answer.err
    assert json.loads(hwnas("devices", "--json").out)["schema"] == 1


# --- what a card says to do -------------------------------------------------------------------


@pytest.mark.parametrize("task", ["classify", "detect"])
def test_the_program_of_a_card_turns_a_photo_upright(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = {"shorter_side": 32, "longest_side": 64, "width": 32, "height": 32, "divide_by": 255.0}
    how |= {"mean": [0.0] * 3, "std": [1.0] * 3}
    card = {"preprocessing": how, "preprocess": "outside", "task": task}
    lines = card_program._cropped(card) if task == "classify" else card_program._fitted(how)
    upright = Image.new("RGB", (32, 32), "white")
    upright.paste("black", (0, 0, 32, 16))  # the upper half
    exif = Image.Exif()
    exif[274] = 6
    content = io.BytesIO()
    upright.rotate(90, expand=True).save(content, "png", exif=exif)
    (tmp_path / "photo.jpg").write_bytes(content.getvalue())
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"np": np}
    exec("\n".join(["from PIL import Image, ImageOps", *lines]), names)
    means = names["images"][0].mean(axis=(0, 2))  # of each row
    assert means[:14].max() < 0.1 and means[18:].min() > 0.9
