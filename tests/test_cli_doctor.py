"""hwnas doctor: what each check finds on machines that are not this one."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwnas import doctor, plugins
from hwnas.doctor import Finding, Imported, Machine, runtimes
from hwnas.doctor import machine as parts

VERSIONS = {"hwnas": "0.1.0", "numpy": "2.4.6", "torch": "2.15.0", "onnxruntime": "1.31.1"}
REQUIREMENTS = (
    "numpy>=1.26",
    "torch>=2.6; extra == 'torch'",
    "onnxruntime>=1.20 ; extra == 'torch'",
    "hwnas[torch]; extra == 'dev'",
)
ORT: dict[str, Any] = {
    "version": "1.31.1",
    "provider": "CPUExecutionProvider",
    "providers": ["CPUExecutionProvider"],
    "missing": None,
}


@pytest.fixture
def healthy(tmp_path: Path) -> Machine:
    """A machine with nothing wrong: no GPU, a steady clock, everything installed."""
    file(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance")
    return Machine(
        root=tmp_path,
        folder=tmp_path,
        python=(3, 11),
        architecture="aarch64",
        managed=False,
        version_of=VERSIONS.get,
        requirements=lambda: REQUIREMENTS,
        owners=lambda: ["hwnas"],
        import_apart=lambda code: Imported(("False",)),
        probe_runtimes=lambda: {"onnxruntime": ORT, "torch": {**ORT, "version": "2.15.0"}},
        table_problems=lambda: {"rpi4": None},
    )


def file(root: Path, path: str, text: str = "") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text + "\n")


def trouble(machine: Machine) -> list[Finding]:
    return [finding for finding in doctor.examine(machine) if finding.level in ("warning", "blocking")]


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


def test_a_healthy_machine_has_no_trouble(healthy: Machine) -> None:
    assert trouble(healthy) == []


def test_what_is_wrong_always_comes_with_what_mends_it(healthy: Machine) -> None:
    file(healthy.root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "ondemand")
    file(healthy.root, "sys/class/thermal/thermal_zone0/temp", "91000")
    file(healthy.root, "dev/nvidia0")
    sick = dataclasses.replace(
        healthy,
        python=(3, 9),
        architecture="armv7l",
        owners=lambda: ["hwnas", "slimnet"],
        version_of={"onnxruntime": "1.2"}.get,
        import_apart=lambda code: Imported(died_of="SIGILL"),
        probe_runtimes=lambda: {"onnxruntime": {**ORT, "missing": "it died", "crashed": "SIGILL"}},
        table_problems=lambda: {"rpi4": "checksum"},
    )
    found = trouble(sick)
    assert len(found) >= 8
    assert all(finding.mend for finding in found)
    assert all("\n" not in finding.what + finding.mend for finding in found)


def test_a_package_that_the_main_job_needs_blocks(healthy: Machine) -> None:
    finding = only(trouble(dataclasses.replace(healthy, version_of={**VERSIONS, "numpy": None}.get)))
    assert finding.level == "blocking"
    assert "numpy" in finding.what
    assert "pip install" in finding.mend


def test_without_the_torch_extra_a_search_still_runs(healthy: Machine) -> None:
    finding = only(trouble(dataclasses.replace(healthy, version_of={**VERSIONS, "torch": None}.get)))
    assert finding.level == "warning"
    assert finding.mend == "pip install 'hwnas[torch]'"


def test_what_runs_from_a_checkout_is_installed_from_there(healthy: Machine) -> None:
    absent = {**VERSIONS, "torch": None, "hwnas": None}
    finding = only(trouble(dataclasses.replace(healthy, version_of=absent.get)))
    assert finding.mend == f"pip install -e '{Path(doctor.__file__).parents[2]}[torch]'"


def test_an_older_onnx_runtime_is_named_with_the_version_it_needs(healthy: Machine) -> None:
    machine = dataclasses.replace(healthy, version_of={**VERSIONS, "onnxruntime": "1.9.0"}.get)
    finding = only(trouble(machine))
    assert "onnxruntime 1.9.0 (needs 1.20 or newer)" in finding.what
    assert finding.mend == "pip install --upgrade 'onnxruntime>=1.20'"


def with_runtime(machine: Machine, name: str, **changed: Any) -> Machine:
    return dataclasses.replace(machine, probe_runtimes=lambda: {"onnxruntime": ORT, name: {**ORT, **changed}})


def test_a_runtime_that_dies_on_import_is_named_with_what_killed_it(healthy: Machine) -> None:
    sick = with_runtime(healthy, "onnxruntime", missing="it died", crashed="SIGILL")
    finding = only(trouble(sick))
    assert "onnxruntime does not load here: it fails with SIGILL" in finding.what
    assert "'onnxruntime<VERSION'" in finding.mend


def test_every_runtime_is_listed_with_its_version_and_providers(healthy: Machine) -> None:
    said = [finding.what for finding in doctor.examine(healthy) if finding.level == "ok"]
    assert "onnxruntime 1.31.1 with CPUExecutionProvider" in said
    assert "torch 2.15.0 with CPUExecutionProvider" in said


def test_a_runtime_that_is_not_here_comes_with_the_command_that_installs_it(healthy: Machine) -> None:
    bare = with_runtime(healthy, "ncnn", version=None, providers=[], missing="pip install ncnn")
    finding = only([one for one in doctor.examine(bare) if "ncnn" in one.what])
    assert (finding.level, finding.mend) == ("note", "pip install ncnn")


def test_the_runtimes_of_this_machine_are_all_probed() -> None:
    probes = runtimes.probe_all()
    assert tuple(probes) == plugins.names("runtimes")
    assert {"onnxruntime", "openvino", "ncnn", "torch"} <= set(probes)
    assert all(found["missing"] or found["providers"] for found in probes.values())


def test_a_gpu_that_torch_does_not_see_is_a_warning(healthy: Machine) -> None:
    file(healthy.root, "dev/nvidia0")
    finding = only(trouble(healthy))
    assert "NVIDIA GPU" in finding.what
    assert "torch 2.15.0 does not see it" in finding.what


def test_a_gpu_that_onnx_runtime_has_no_provider_for_is_noted(healthy: Machine) -> None:
    file(healthy.root, "dev/nvidia0")
    notes = [finding for finding in doctor.examine(healthy) if finding.level == "note"]
    assert any("onnxruntime" in note.what and "onnxruntime-gpu" in note.mend for note in notes)


@pytest.mark.parametrize("governor", ["powersave", "ondemand", "schedutil", "conservative"])
def test_a_governor_that_changes_the_clock_is_a_warning(healthy: Machine, governor: str) -> None:
    file(healthy.root, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", governor)
    finding = only(trouble(healthy))
    assert f"'{governor}'" in finding.what
    assert "echo performance" in finding.mend


def test_a_boosting_clock_is_noted(healthy: Machine) -> None:
    file(healthy.root, "sys/devices/system/cpu/intel_pstate/no_turbo", "0")
    assert any("no_turbo" in finding.mend for finding in doctor.examine(healthy))
    file(healthy.root, "sys/devices/system/cpu/intel_pstate/no_turbo", "1")
    assert not any("no_turbo" in finding.mend for finding in doctor.examine(healthy))


def test_a_hot_machine_is_a_warning(healthy: Machine) -> None:
    file(healthy.root, "sys/class/thermal/thermal_zone0/temp", "60000")
    assert trouble(healthy) == []
    file(healthy.root, "sys/class/thermal/thermal_zone1/temp", "85000")
    assert "85" in only(trouble(healthy)).what


def test_another_owner_of_the_import_name_blocks(healthy: Machine) -> None:
    finding = only(trouble(dataclasses.replace(healthy, owners=lambda: ["hwnas", "slimnet"])))
    assert finding.level == "blocking"
    assert "'slimnet'" in finding.what
    assert finding.mend.startswith("pip uninstall -y slimnet")


def test_a_folder_that_cannot_be_written_to_blocks(healthy: Machine) -> None:
    finding = only(trouble(dataclasses.replace(healthy, folder=Path("/proc"))))
    assert finding.level == "blocking"
    assert "/proc" in finding.what


def test_a_broken_table_is_named_and_no_table_at_all_blocks(healthy: Machine) -> None:
    broken = {"rpi4": None, "mine": "mine.yaml: the checksum does not fit"}
    assert "'mine'" in only(trouble(dataclasses.replace(healthy, table_problems=lambda: broken))).what
    assert only(trouble(dataclasses.replace(healthy, table_problems=dict))).level == "blocking"


def test_an_old_python_blocks(healthy: Machine) -> None:
    finding = only(trouble(dataclasses.replace(healthy, python=(3, 10))))
    assert finding.level == "blocking"
    assert "3.11" in finding.what


def test_a_crash_in_the_process_apart_is_told_by_its_signal() -> None:
    assert parts._import_apart("import os, signal; os.kill(os.getpid(), signal.SIGILL)").died_of == "SIGILL"
    assert parts._import_apart("import no_such_package").died_of == (
        "ModuleNotFoundError: No module named 'no_such_package'"
    )
    assert parts._import_apart("print('fine')") == Imported(("fine",))


def test_the_project_file_says_what_hwnas_asks_for_when_it_is_not_installed() -> None:
    asked = parts._requirements()
    assert any(line.startswith("numpy") for line in asked)
    assert any(line.startswith("onnxruntime") and "torch" in line for line in asked)


@pytest.mark.parametrize(("level", "code"), [("warning", 0), ("blocking", 2)])
def test_it_exits_with_2_only_when_a_search_cannot_run(
    hwnas: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, level: str, code: int
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: (Finding(level, "something is odd", "mend it"),))
    answer = hwnas("doctor")
    assert answer.code == code
    assert "something is odd" in answer.out
    assert "-> mend it" in answer.out
    document = json.loads(hwnas("doctor", "--json").out)
    assert document["ready"] == (code == 0)
    assert document["findings"] == [{"level": level, "what": "something is odd", "mend": "mend it"}]


def test_this_machine_is_examined_without_a_crash() -> None:
    quick = Machine(
        import_apart=lambda code: Imported(("False",)),
        probe_runtimes=dict,
        table_problems=lambda: {"rpi4": None},
    )
    found = doctor.examine(quick)
    assert found[0].what.startswith(f"Python {sys.version_info.major}.{sys.version_info.minor}")
    assert all(finding.level in doctor.LEVELS for finding in found)
