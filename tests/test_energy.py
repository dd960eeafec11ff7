"""Energy: what boards report, read from recorded output, and what a search makes of it.

The tegrastats lines are recordings: Nano, TX1, TX2 and AGX Xavier from the tests of DataDog/datadog-agent
(Apache-2.0, pkg/collector/corechecks/nvidia/jetson), the Orin Nano's as boards print it with JetPack 6. The
files of RAPL and of the INA3221 are laid out as Linux, Documentation/power/powercap/powercap.rst and
Documentation/hwmon/ina3221.rst, and NVIDIA's Jetson Linux Developer Guide (power monitors) say.
"""

from __future__ import annotations

import dataclasses
import io
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hwnas.board import energy, protocol
from hwnas.board.agent import serve
from hwnas.cli import table_energy
from hwnas.errors import FileFormatError, UsageError
from hwnas.measure.networks import MeasuredNetwork
from hwnas.predictors.latency import LatencyTable
from hwnas.predictors.latency.energy import EnergyModel, fit_energy
from hwnas.predictors.latency.features import features
from hwnas.predictors.latency.measurements import Measurement
from hwnas.search import search
from hwnas.space import ArchSpec, preset, preset_names
from hwnas.space.ops import lower

NANO = (
    "RAM 613/3964MB (lfb 634x4MB) SWAP 0/1982MB (cached 0MB) CPU [2%@102,1%@102,0%@102,0%@102] EMC_FREQ 0% "
    "GR3D_FREQ 0% PLL@39C CPU@40.5C PMIC@100C GPU@41C AO@46C thermal@41C POM_5V_IN 900/943 POM_5V_GPU 0/0 "
    "POM_5V_CPU 123/123"
)
TX1 = (
    "RAM 1179/3983MB (lfb 120x4MB) IRAM 0/252kB(lfb 252kB) CPU [1%@102,4%@102,0%@102,0%@102] EMC_FREQ "
    "7%@408 GR3D_FREQ 0%@76 APE 25 AO@42.5C CPU@37.5C GPU@39C PLL@37C Tdiode@42.75C PMIC@100C Tboard@42C "
    "thermal@38.5C VDD_IN 2532/2698 VDD_CPU 76/178 VDD_GPU 19/19"
)
TX2 = (
    "RAM 1345/7829MB (lfb 1290x4MB) SWAP 0/512MB (cached 0MB) CPU [2%@345,off,off,off,off,off] EMC_FREQ "
    "13%@40 GR3D_FREQ 0%@114 APE 150 BCPU@35C MCPU@35C GPU@41C PLL@35C AO@35.5C Tboard@35C Tdiode@36C "
    "PMIC@100C thermal@35.5C VDD_IN 2003/2658 VDD_CPU 320/518 VDD_GPU 400/735 VDD_SOC 400/415 VDD_WIFI 0/0 "
    "VDD_DDR 240/348"
)
AGX_XAVIER = (
    "RAM 1903/15692MB (lfb 3251x4MB) CPU [1%@1190,1%@1190,2%@1190,0%@1190,0%@1190,0%@1190,0%@1190,0%@1190] "
    "EMC_FREQ 0% GR3D_FREQ 0% AO@32.5C GPU@32C Tboard@32C Tdiode@34.75C AUX@31.5C CPU@33.5C thermal@32.9C "
    "PMIC@100C GPU 0/0 CPU 216/216 SOC 864/864 CV 0/0 VDDRQ 144/144 SYS5V 1889/1889"
)
ORIN_NANO = (
    "04-27-2026 15:00:54 RAM 779/7620MB (lfb 2x4MB) SWAP 0/3810MB (cached 0MB) CPU [0%@1344,0%@1344,0%@1344,"
    "0%@1344,0%@1344,0%@1344] GR3D_FREQ 0% cpu@50.125C soc2@49.125C soc0@49.25C gpu@50.562C tj@50.562C "
    "soc1@50.437C VDD_IN 6626mW/6625mW VDD_CPU_GPU_CV 1228mW/1230mW VDD_SOC 2380mW/2380mW "
)


@pytest.mark.parametrize(
    ("line", "total", "rail"),
    [
        (NANO, 900, ("POM_5V_CPU", 123)),
        (TX1, 2532, ("VDD_GPU", 19)),
        (TX2, 2003, ("VDD_DDR", 240)),
        (AGX_XAVIER, 0 + 216 + 864 + 0 + 144 + 1889, ("SYS5V", 1889)),
        (ORIN_NANO, 6626, ("VDD_SOC", 2380)),
    ],
    ids=["nano", "tx1", "tx2", "agx-xavier", "orin-nano"],
)
def test_tegrastats_of_every_generation_gives_the_modules_power(
    line: str, total: int, rail: tuple[str, int]
) -> None:
    rails = energy.parse_tegrastats(line)
    assert energy.total_mw(rails) == total
    assert rails[rail[0]] == rail[1]
    assert not {"RAM", "SWAP", "IRAM", "EMC_FREQ", "APE"} & rails.keys()


def test_a_line_without_power_gives_none() -> None:
    assert energy.total_mw(energy.parse_tegrastats("RAM 613/3964MB (lfb 634x4MB) CPU [2%@102]")) is None


def write(folder: Path, files: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")


def rapl(root: Path, *, package: int, dram: int) -> None:
    zones = root / "sys/class/powercap"
    most = 262143328850
    write(zones / "intel-rapl:0", {"name": "package-0", "energy_uj": package, "max_energy_range_uj": most})
    write(zones / "intel-rapl:0:0", {"name": "core", "energy_uj": 5, "max_energy_range_uj": most})
    write(zones / "intel-rapl:0:1", {"name": "dram", "energy_uj": dram, "max_energy_range_uj": 65712999613})


def test_rapl_counts_packages_and_memory_once_and_survives_a_wrap(tmp_path: Path) -> None:
    rapl(tmp_path, package=262143328850 - 1_000_000, dram=100)
    meter = energy.find(tmp_path)
    assert isinstance(meter, energy.Rapl)
    meter.start()
    rapl(tmp_path, package=2_000_000, dram=500_100)
    assert meter.stop() == pytest.approx(1 + 2 + 0.5)  # joules; 'core' is inside the package


def test_rapl_that_only_root_may_read_is_no_meter(tmp_path: Path) -> None:
    rapl(tmp_path, package=1, dram=1)
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()
    assert energy.find(tmp_path) is None


def test_a_board_that_reports_nothing_has_no_meter(tmp_path: Path) -> None:
    assert energy.find(tmp_path) is None


def test_ina3221_is_read_through_hwmon(tmp_path: Path) -> None:
    chip = tmp_path / "sys/class/hwmon/hwmon1"
    write(
        chip,
        {
            "name": "ina3221",
            "in1_label": "VDD_IN", "in1_input": 5056, "curr1_input": 992,
            "in2_label": "VDD_CPU_GPU_CV", "in2_input": 5056, "curr2_input": 200,
            "in4_label": "sum of shunt voltages", "in4_input": 7,
        },
    )  # fmt: skip
    write(tmp_path / "sys/class/hwmon/hwmon0", {"name": "tmp451", "in1_label": "x", "in1_input": 1})
    rails = energy.ina_rails(tmp_path)
    assert rails == {"VDD_IN": 5056 * 992 // 1000, "VDD_CPU_GPU_CV": 1011}
    meter = energy.find(tmp_path)
    assert isinstance(meter, energy.PowerMeter) and meter.name == "ina3221"


def test_ina3221_is_read_through_iio_of_jetpack_4(tmp_path: Path) -> None:
    device = tmp_path / "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    write(
        device,
        {
            "rail_name_0": "POM_5V_IN",
            "in_power0_input": 3411,
            "rail_name_1": "POM_5V_GPU",
            "in_power1_input": 124,
        },
    )
    assert energy.ina_rails(tmp_path) == {"POM_5V_IN": 3411, "POM_5V_GPU": 124}
    assert energy.total_mw(energy.ina_rails(tmp_path)) == 3411


def test_power_is_integrated_by_trapezoids_up_to_the_end() -> None:
    ramp = [(0.0, 2.0), (1.0, 4.0), (2.0, 4.0)]
    assert energy.integral(ramp, 2.0) == pytest.approx(3 + 4)
    assert energy.integral(ramp, 0.5) == pytest.approx(0.5 * (2 + 3) / 2)
    assert energy.integral(ramp, 3.0) == pytest.approx(3 + 4 + 4)


def test_millijoules_are_of_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0]

    def run() -> None:
        now[0] += 50_000_000  # 50 ms

    class Six:
        name = "rapl"

        def start(self) -> None:
            self.began = now[0]

        def stop(self) -> float:
            return 6.0 * (now[0] - self.began) / 1e9  # six watts

    found = energy.meter_mj(run, Six(), seconds=1.0, clock=lambda: now[0])  # type: ignore[arg-type]
    assert found == pytest.approx(6 * 50)  # 6 W for 50 ms


class Lost:
    name = "ina3221"

    def start(self) -> None:
        pass

    def stop(self) -> float:
        raise OSError("the power sensor no longer answers")


class Steady(Lost):
    def stop(self) -> float:
        return 0.006


@pytest.mark.parametrize(("meter", "told"), [(Steady(), True), (Lost(), False), (None, False)])
def test_the_agent_answers_with_energy_where_it_is_asked_and_can(
    meter: Any, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy, "find", lambda: meter)
    rules = {"warmup_runs": 3, "warmup_s": 0.0, "warmup_limit_s": 0.05, "repeats": 4, "limit_s": 0.02}
    asked = {"command": "measure", "rules": {**rules, "energy_s": 1e-9}, "id": 0}
    stream, results = io.BytesIO(), io.BytesIO()
    for command in (asked, {**asked, "rules": rules}):
        protocol.write_frame(stream, command, b"model")
    stream.seek(0)
    session = SimpleNamespace(run=lambda: None, close=lambda: None)
    serve(stream, results, runtime=SimpleNamespace(prepare=lambda model, **settings: session))
    results.seek(0)
    (first, _), (second, _) = (protocol.read_frame(results) or ({}, b"") for _ in range(2))
    assert first["median_ms"] >= 0 and "energy_mj" not in second
    if told:
        assert first["energy_mj"] == pytest.approx(1000 * 0.006 / 3)  # three runs at least
        assert first["energy_meter"] == "ina3221"
    else:
        assert "energy_mj" not in first


def test_a_sampled_constant_power_gives_power_times_time() -> None:
    meter = energy.PowerMeter("ina3221", lambda: 5.0, every_s=0.001)
    meter.start()
    began = time.perf_counter()
    time.sleep(0.02)
    joules = meter.stop()
    assert 5.0 * 0.02 <= joules <= 5.0 * (time.perf_counter() - began + 0.01)


# --- tables, measurements, searches ------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> EnergyModel:
    """Of presets whose energy is a known sum of features."""
    archs = {name: preset(name) for name in preset_names()}
    truth = np.array([3e-7, 2e-7, 1e-6, 4e-6, 1e-6, 0.01])
    energies = {name: float(truth @ list(features(lower(arch)).values())) for name, arch in archs.items()}
    return fit_energy(archs, energies, meter="rapl")


def test_an_energy_model_predicts_networks_left_out(model: EnergyModel) -> None:
    assert model.heldout.mape_percent == pytest.approx(0, abs=2)
    found = model.predict_ops(lower(preset("uniform-m")))
    assert found.unit == "mJ" and found.low is not None and found.low <= found.value


def test_an_energy_model_is_kept_by_a_table(model: EnergyModel, tmp_path: Path) -> None:
    table = LatencyTable.load("cpu-x86")
    assert table.energy is None  # nobody measured it: nothing is invented
    facts = {**table.measurement, "energy": model.to_dict()}
    dataclasses.replace(table, name="metered", measurement=facts).save(tmp_path / "metered.yaml")
    read = LatencyTable.load(tmp_path / "metered.yaml").energy
    assert read is not None and read.values == model.values
    assert read.heldout.factor() == pytest.approx(model.heldout.factor())


def test_a_damaged_energy_model_is_refused(model: EnergyModel) -> None:
    data = model.to_dict()
    with pytest.raises(FileFormatError, match="energy"):
        EnergyModel.from_dict({**data, "networks": [["a", -1, 2]]}, source="t.yaml")
    with pytest.raises(FileFormatError, match="energy"):
        EnergyModel.from_dict({}, source="t.yaml")


def test_few_networks_give_no_energy_model() -> None:
    with pytest.raises(UsageError, match="at least 10"):
        fit_energy({"uniform-t": preset("uniform-t")}, {"uniform-t": 1.0}, meter="rapl")


def test_a_search_minimises_energy_and_bounds_it(model: EnergyModel) -> None:
    table = LatencyTable.load("rpi4")
    metered = dataclasses.replace(table, measurement={**table.measurement, "energy": model.to_dict()})
    most = model.predict_ops(lower(preset("uniform-m"))).value
    result = search(
        device=metered, budget_ms=40, trials=60, seed=1, sampler="random",
        objectives=["energy"], limits={"energy": most},
    )  # fmt: skip
    assert result.config.minimised == ("latency", "energy")
    assert result.front
    for one in result.front:
        assert one.also["energy"].unit == "mJ"
        assert one.also["energy"].value <= most
        assert one.also["energy"].value == pytest.approx(model.predict_ops(lower(one.arch)).value)


def test_energy_cannot_be_minimised_where_nobody_measured_it() -> None:
    with pytest.raises(UsageError, match="hwnas table energy rpi4"):
        search(device="rpi4", budget_ms=40, trials=10, objectives=["energy"])


def test_a_measurement_keeps_its_energy_and_one_without_stays_as_it_was() -> None:
    plain: dict[str, Any] = {
        "network": "a", "ms": 2.0, "low_ms": 1.0, "high_ms": 3.0, "measured": "2026-11-21T16:00:00Z",
        "board": "b", "runtime": "onnxruntime", "runtime_version": "1", "provider": "cpu", "threads": 1,
        "batch": 1, "precision": "fp32", "graph": "deployment 1",
    }  # fmt: skip
    assert Measurement.from_dict(plain, source="x").to_dict() == plain
    metered = {**plain, "energy_mj": 12.5}
    assert Measurement.from_dict(metered, source="x").to_dict() == metered
    assert Measurement.from_dict(metered, source="x").key == Measurement.from_dict(plain, source="x").key
    with pytest.raises(FileFormatError, match="energy_mj"):
        Measurement.from_dict({**plain, "energy_mj": -1.0}, source="x")


def test_energy_is_not_added_to_an_estimated_table() -> None:
    with pytest.raises(UsageError, match="'rpi4' is estimated from published figures"):
        table_energy.command("rpi4")


@pytest.mark.parametrize("meter", ["rapl", ""])
def test_table_energy_writes_the_table_with_a_model_where_the_board_reports_energy(
    meter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(archs: dict[str, ArchSpec], profile: object, **how: Any) -> dict[str, MeasuredNetwork]:
        assert how["energy_s"] == 1.0
        return {
            name: MeasuredNetwork(
                (1.0,), (1.0,), (1.0,), 1.0, 1.0,
                rounds_mj=(2e-7 * sum(op.macs for op in lower(arch)),) if meter else (), meter=meter,
            )
            for name, arch in archs.items()
        }  # fmt: skip

    monkeypatch.setattr("hwnas.measure.networks.measure_archs", measured)
    monkeypatch.setattr(table_energy, "profile_there", lambda table, start: table.profile)
    if not meter:
        with pytest.raises(UsageError, match="does not report energy"):
            table_energy.command("cpu-x86", networks=12, out=tmp_path)
        return
    table_energy.command("cpu-x86", networks=12, out=tmp_path)
    assert "mean error 0.0 % with each network left out" in capsys.readouterr().out
    model = LatencyTable.load(tmp_path / "cpu-x86.yaml").energy
    assert model is not None and model.meter == "rapl" and len(model.heldout) == 12
