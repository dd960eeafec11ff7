"""For which versions of its runtime a table holds: accepted, checked, corrected, refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hwnas.cli.app import main
from hwnas.errors import FileFormatError, UsageError
from hwnas.measure import recheck
from hwnas.predictors.latency import LatencyTable
from hwnas.predictors.latency.runtime_versions import (
    Jump,
    VersionCheck,
    check_configuration,
    checked_versions,
    pin_command,
    record_check,
    version_note,
)


@pytest.fixture(scope="module")
def table() -> LatencyTable:
    shipped = LatencyTable.load("cpu-x86")
    profile = dataclasses.replace(shipped.profile, runtime_version="1.31.1")
    return dataclasses.replace(shipped, profile=profile)


# --- versions ---


def test_the_measured_version_needs_no_note(table: LatencyTable) -> None:
    assert version_note(table, "1.31.1") == ""


@pytest.mark.parametrize("version", ["1.31.2", "1.32.0", "1.40"])
def test_a_newer_patch_or_minor_version_is_accepted_with_the_way_to_check(
    table: LatencyTable, version: str
) -> None:
    note = version_note(table, version)
    assert f"measured with onnxruntime 1.31.1; {version} is installed" in note
    assert "hwnas table recheck cpu-x86" in note


@pytest.mark.parametrize("version", ["2.0.0", "1.30.0", "1.31.0", "nightly"])
def test_an_older_or_another_major_version_is_refused_with_the_pin_command(
    table: LatencyTable, version: str
) -> None:
    with pytest.raises(UsageError, match=r"pip install onnxruntime==1\.31\.1") as caught:
        version_note(table, version)
    assert "hwnas table recheck cpu-x86" in str(caught.value)


def test_another_build_of_one_version_is_accepted_with_a_note(table: LatencyTable) -> None:
    profile = dataclasses.replace(table.profile, runtime="torch", runtime_version="2.15.0+cu132")
    torch = dataclasses.replace(table, profile=profile)
    assert "2.15.0+cpu is installed" in version_note(torch, "2.15.0+cpu")
    assert pin_command(profile) == "pip install torch==2.15.0"


def test_the_pin_command_of_a_gpu_provider_names_its_package(table: LatencyTable) -> None:
    profile = dataclasses.replace(table.profile, provider="CUDAExecutionProvider")
    assert pin_command(profile) == "pip install onnxruntime-gpu==1.31.1"


def test_a_version_across_a_known_jump_is_refused_and_one_before_it_is_not(table: LatencyTable) -> None:
    jumps = [Jump("onnxruntime", "1.33", "fp32 convolutions take 0.8 times as long")]
    assert version_note(table, "1.32.0", jumps=jumps)
    with pytest.raises(UsageError, match=r"From onnxruntime 1\.33 on, fp32 convolutions take 0\.8 times"):
        version_note(table, "1.34.1", jumps=jumps)
    assert version_note(table, "1.34.1", jumps=[dataclasses.replace(jumps[0], runtime="ncnn")])


def test_a_checked_version_is_accepted_whatever_it_is(table: LatencyTable) -> None:
    checks = [VersionCheck("2.0.0", 10, 1.25, "2026-11-30")]
    note = version_note(table, "2.0.0", checks=checks, jumps=[Jump("onnxruntime", "2.0", "all is new")])
    assert "holds for 2.0.0 (checked 2026-11-30: 1.2 % error on 10 networks)" in note


def test_all_differences_of_a_configuration_are_told_at_once(table: LatencyTable) -> None:
    other = dataclasses.replace(table.profile, threads=2, runtime_version="0.9")
    with pytest.raises(UsageError) as caught:
        check_configuration(table, other, checks=())
    for part in ("threads: the table has 1, requested 2", "the table has 1.31.1, requested 0.9"):
        assert part in str(caught.value)
    assert check_configuration(table, other, checks=(), allow_mismatch=True) == ()


def test_a_newer_version_does_not_hide_another_difference(table: LatencyTable) -> None:
    other = dataclasses.replace(table.profile, threads=2, runtime_version="1.32.0")
    with pytest.raises(UsageError, match="threads: the table has 1, requested 2"):
        check_configuration(table, other, checks=())


# --- the file of checks ---


def test_a_check_is_found_again_and_a_newer_one_of_the_version_replaces_it(
    table: LatencyTable, tmp_path: Path
) -> None:
    first, second = (
        VersionCheck("1.33.0", 10, error, day) for error, day in ((1.5, "2026-12-01"), (1.1, "2026-12-02"))
    )
    other = VersionCheck("1.34.0", 12, 2.0, "2026-12-03")
    for check in (first, other, second):
        path = record_check(table, check, tmp_path)
    assert path.name == "cpu-x86.checks.json"
    assert set(checked_versions(table, [tmp_path])) == {second, other}


def test_a_check_is_of_one_table_only(table: LatencyTable, tmp_path: Path) -> None:
    record_check(table, VersionCheck("1.33.0", 10, 1.5, "2026-12-01"), tmp_path)
    built_anew = dataclasses.replace(table, created="2027-01-01")
    assert checked_versions(built_anew, [tmp_path]) == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"format": "x"}',
        '{"format": "hwnas runtime version checks", "version": 2, "checks": {}}',
        '{"format": "hwnas runtime version checks", "version": 1, "checks": {"D": [{"networks": -1}]}}',
    ],
)
def test_a_damaged_or_foreign_file_of_checks_is_refused(
    table: LatencyTable, tmp_path: Path, text: str
) -> None:
    (tmp_path / "cpu-x86.checks.json").write_text(text)
    with pytest.raises(FileFormatError, match=r"cpu-x86\.checks\.json"):
        checked_versions(table, [tmp_path])


# --- rechecking ---


def measured(table: LatencyTable, archs: dict[str, Any], factors: list[float]) -> dict[str, Any]:
    """Networks that take so many times what the table predicts, the same in three rounds."""
    found = {}
    for (name, arch), factor in zip(archs.items(), factors, strict=True):
        ms = factor * table.predict(arch).value
        found[name] = SimpleNamespace(raw_ms=ms, clock_ms=(ms, ms, ms))
    return found


@pytest.fixture(scope="module")
def archs(table: LatencyTable) -> dict[str, Any]:
    return recheck.networks_of(table, 10)


def test_networks_to_recheck_are_new_to_the_table_and_the_same_every_time(
    table: LatencyTable, archs: dict[str, Any]
) -> None:
    assert len(archs) == 10
    assert archs.keys().isdisjoint(item.label for item in table.heldout.networks)
    assert recheck.networks_of(table, 10).keys() == archs.keys()
    assert recheck.networks_of(table, 10, seed=1).keys() != archs.keys()


def test_a_table_that_predicts_well_is_accepted(table: LatencyTable, archs: dict[str, Any]) -> None:
    outcome = recheck.judge(table, archs, measured(table, archs, [1.01, 0.99] * 5))
    assert (outcome.verdict, outcome.inside) == (recheck.ACCEPTED, 10)
    assert outcome.factor == pytest.approx(1.0, abs=0.01)


def test_one_factor_for_all_corrects_the_table(table: LatencyTable, archs: dict[str, Any]) -> None:
    found = measured(table, archs, [0.81, 0.79] * 5)
    outcome = recheck.judge(table, archs, found)
    assert outcome.verdict == recheck.CORRECTED
    assert outcome.factor == pytest.approx(0.8, abs=0.011)
    assert outcome.corrected_mape_percent < 2.6 < 20 < outcome.mape_percent
    new = dataclasses.replace(table.profile, runtime_version="1.33.0")
    corrected = recheck.corrected_table(
        table, outcome, archs, found, name="cpu-x86", profile=new, created="2026-12-01"
    )
    arch = next(iter(archs.values()))
    assert corrected.predict(arch).value == pytest.approx(outcome.factor * table.predict(arch).value)
    assert version_note(corrected, "1.33.0") == ""
    assert len(corrected.heldout) == len(table.heldout) + 10
    assert corrected.heldout.mape_percent == pytest.approx(table.heldout.mape_percent, abs=0.4)


def test_times_without_a_common_factor_refuse_the_table(table: LatencyTable, archs: dict[str, Any]) -> None:
    outcome = recheck.judge(table, archs, measured(table, archs, [0.6, 0.8, 1.0, 1.2, 1.4] * 2))
    assert outcome.verdict == recheck.REFUSED


def test_rounds_that_disagree_are_no_evidence_against_a_table(
    table: LatencyTable, archs: dict[str, Any]
) -> None:
    found = measured(table, archs, [1.05] * 10)
    for one in found.values():
        one.clock_ms = (0.9 * one.raw_ms, one.raw_ms, 1.1 * one.raw_ms)
    assert recheck.judge(table, archs, found).verdict == recheck.ACCEPTED


@pytest.mark.parametrize(
    ("factor", "verdict", "code"), [(1.0, "accepted", 0), (0.8, "corrected", 0), (None, "refused", 5)]
)
def test_the_command_writes_what_its_verdict_says(
    table: LatencyTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    factor: float | None,
    verdict: str,
    code: int,
) -> None:
    """Only what is timed and the installed version are stood in for."""
    new = dataclasses.replace(table.profile, runtime_version="1.33.0")

    def measure_archs(archs: dict[str, Any], *_: Any, **__: Any) -> dict[str, Any]:
        spread = [0.6, 0.8, 1.0, 1.2, 1.4] * 2
        return measured(table, archs, spread if factor is None else [factor] * len(archs))

    monkeypatch.setattr("hwnas.measure.networks.measure_archs", measure_archs)
    monkeypatch.setattr("hwnas.measure.build.measured_profile", lambda *_, **__: (new, {}))
    monkeypatch.setenv("HWNAS_TABLES", str(tmp_path))
    path = tmp_path / "mine" / "cpu-x86.yaml"
    table.save(path)
    out = tmp_path / "out"
    assert main(["table", "recheck", str(path), "--out", str(out), "--json"]) == code
    document = json.loads(capsys.readouterr().out)
    assert (document["verdict"], document["checked_version"]) == (verdict, "1.33.0")
    kept = sorted(file.name for file in out.iterdir() if not file.name.startswith("."))  # its lock
    assert (
        kept == {"accepted": ["cpu-x86.checks.json"], "corrected": ["cpu-x86.yaml"], "refused": []}[verdict]
    )
    if verdict == "accepted":
        (check,) = checked_versions(table, [out])
        assert check.runtime_version == "1.33.0"
    if verdict == "corrected":
        assert LatencyTable.load(out / "cpu-x86.yaml").profile.runtime_version == "1.33.0"


# --- the documented lines, with the runtime that is installed ---


@pytest.fixture
def older_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A device of this machine whose table was measured with the minor version before the installed one."""
    onnxruntime = pytest.importorskip("onnxruntime")
    from hwnas.measure.build import measured_profile
    from hwnas.measure.remote.link import LocalLink

    here, _ = measured_profile(
        lambda: LocalLink("onnxruntime"), runtime="onnxruntime", threads=1, batch=1, precision="fp32"
    )
    assert here.runtime_version == onnxruntime.__version__
    major, minor = map(int, here.runtime_version.split(".")[:2])
    older = dataclasses.replace(here, runtime_version=f"{major}.{minor - 1}.1")
    table = dataclasses.replace(LatencyTable.load("cpu-x86"), name="this-machine", profile=older)
    table.save(tmp_path / "tables" / "this-machine.yaml")
    monkeypatch.setenv("HWNAS_TABLES", str(tmp_path / "tables"))
    return "this-machine"


def test_a_network_is_measured_beside_a_table_of_an_older_minor_version(
    older_table: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["measure", "uniform-t", "--device", older_table, "--rounds", "1", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["networks"][0]["predicted_ms"] > 0
    assert f"hwnas table recheck {older_table}" in printed.err


def test_a_front_is_verified_with_a_table_of_an_older_minor_version(
    older_table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    search = ["search", "--device", older_table, "--budget", "60ms", "--trials", "20", "--out", str(run)]
    assert main([*search, "--verify", "--verify-networks", "1"]) == 0
    printed = capsys.readouterr()
    assert f"hwnas table recheck {older_table}" in printed.err
    front = json.loads((run / "front.json").read_text())
    assert front["verification"]["measured"]


def test_the_shipped_table_is_measured_beside_with_the_newest_runtime() -> None:
    pytest.importorskip("onnxruntime")
    assert main(["measure", "uniform-t", "--device", "cpu-x86", "--rounds", "1"]) == 0
