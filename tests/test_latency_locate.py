"""Finding tables: the user's folders before those that ship, unknown devices with a suggestion."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hwnas.errors import UsageError
from hwnas.predictors.latency import LatencyTable, device_names, find_table, table_folders


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Path]:
    """$HWNAS_TABLES with two folders, and a current folder with tables of its own."""
    first, second, here = tmp_path / "first", tmp_path / "second", tmp_path / "here" / "latency_tables"
    for folder in (first, second, here):
        folder.mkdir(parents=True)
    monkeypatch.setenv("HWNAS_TABLES", f"{first}{os.pathsep}{second}")
    monkeypatch.chdir(here.parent)
    return first, second, here


def test_named_folders_come_first_then_the_current_one_then_what_ships(
    folders: tuple[Path, Path, Path],
) -> None:
    found = table_folders()
    assert found[:3] == folders
    assert len(found) > 3


def test_the_first_folder_that_has_a_device_wins(folders: tuple[Path, Path, Path]) -> None:
    for folder in reversed(folders):
        (folder / "rpi4.yaml").write_text("x")
        assert find_table("rpi4") == folder / "rpi4.yaml"


def test_shipped_tables_are_found_from_anywhere(folders: tuple[Path, Path, Path]) -> None:
    assert "rpi4" in device_names()
    assert LatencyTable.load("rpi4").name == "rpi4"


def test_every_shipped_table_is_valid_and_named_after_its_file() -> None:
    for name in device_names():
        assert LatencyTable.load(name).name == name


def test_an_unknown_device_is_told_with_the_list_and_the_nearest() -> None:
    with pytest.raises(UsageError, match="no device 'rp4'. Did you mean 'rpi4'") as caught:
        find_table("rp4")
    assert "Known: " in str(caught.value)


def test_a_table_file_is_named_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("x")
    assert find_table(str(path)) == path
    with pytest.raises(UsageError, match="no table file"):
        find_table(str(tmp_path / "none.yaml"))


def test_a_name_that_begins_several_devices_is_answered_with_them() -> None:
    """UniForm and SHViT disagree on the A100: neither is what 'a100' means."""
    with pytest.raises(UsageError, match="no device 'a100' alone") as caught:
        find_table("a100")
    assert "a100-batch2048, a100-batch256" in str(caught.value)
