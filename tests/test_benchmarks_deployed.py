"""The benchmarks of exported files and of builds under load: what they compute from timings."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import busy_builds  # noqa: E402
import deployed_files  # noqa: E402
import plain_timing  # noqa: E402
from latency_truth import Network, Truth  # noqa: E402

from hwnas.errors import UsageError  # noqa: E402
from hwnas.predictors.latency import DeviceProfile, LatencyTable  # noqa: E402
from hwnas.space import preset  # noqa: E402

NAMES = ("uniform-t", "efficientvit-m0", "shvit-s1")


@pytest.fixture(scope="module")
def table() -> LatencyTable:
    shipped = LatencyTable.load("cpu-x86")
    return dataclasses.replace(shipped, measurement={**shipped.measurement, "graph": "deployment 1"})


def networks() -> list[Network]:
    return [Network(name, "preset", preset(name)) for name in NAMES]


def rounds(
    table: LatencyTable, factor: float, *, slowed: float = 1.0
) -> dict[str, list[tuple[float, float]]]:
    """Each network takes so many times its prediction; the whole machine is slowed down besides."""
    found = {}
    for name in NAMES:
        ms = factor * table.predict(preset(name)).value
        beside = table.pace.reference_ms(ms) if table.pace else 2.0
        found[name] = [(ms * slowed, beside * slowed)] * 2
    return found


def test_the_error_is_the_files_time_against_the_prediction(table: LatencyTable) -> None:
    document = deployed_files.analysis(table, networks(), rounds(table, 0.8))
    scores = document["scores"]["all, by the clock"]
    assert scores["mape_percent"] == pytest.approx(25.0)  # predictions are a quarter too long
    assert scores["coverage_percent"] == 0
    assert "random, by the clock" not in document["scores"]  # there is none
    assert document["noise_floor_percent"] == 0


def test_a_machine_that_is_slower_as_a_whole_is_told_apart_at_the_tables_pace(table: LatencyTable) -> None:
    document = deployed_files.analysis(table, networks(), rounds(table, 1.0, slowed=1.05))
    assert document["slowness"] == pytest.approx(1.05, abs=0.01)
    clock, pace = (
        document["scores"][f"all, {way}"]["mape_percent"] for way in ("by the clock", "at the table's pace")
    )
    assert pace < 0.5 * clock


def test_at_the_pace_of_a_table_of_another_graph_nothing_is_told(table: LatencyTable) -> None:
    old = dataclasses.replace(
        table, measurement={key: value for key, value in table.measurement.items() if key != "graph"}
    )
    document = deployed_files.analysis(old, networks(), rounds(table, 1.0))
    assert "all, at the table's pace" not in document["scores"]


def test_the_deployed_form_is_compared_with_the_reference_graph(table: LatencyTable) -> None:
    document = deployed_files.analysis(table, networks(), rounds(table, 0.9), rounds(table, 1.0))
    assert document["deployed_over_reference"]["median"] == pytest.approx(0.9)


def test_a_folder_answers_one_question_only(table: LatencyTable, tmp_path: Path) -> None:
    timed = deployed_files.Timed(tmp_path, table.profile, seed=0, seconds=0.1)
    timed.begin({"table": "a"})
    timed.begin({"table": "a"})
    with pytest.raises(UsageError, match="another question"):
        timed.begin({"table": "b"})


def test_timings_are_taken_in_turns_and_told_as_medians() -> None:
    calls: list[str] = []
    own_ms, beside_ms, turns = plain_timing.in_turns(
        lambda: calls.append("own"), lambda: calls.append("reference"), 0.0
    )
    assert turns == plain_timing.FEWEST_TURNS
    assert calls.count("reference") == 2 * turns
    assert 0 <= own_ms < 5 and 0 <= beside_ms < 5


def test_the_plain_timing_imports_nothing_of_hwnas() -> None:
    code = "import sys, plain_timing; print(any(name.startswith('hwnas') for name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "benchmarks", capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_an_exported_file_is_timed_and_the_timing_goes_on_where_it_was(
    table: LatencyTable, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    small = preset("uniform-t").adapted(resolution=32, stem_stride=4, classes=10)
    profile = DeviceProfile("here", "onnxruntime")
    timed = deployed_files.Timed(tmp_path, profile, seed=0, seconds=0.01)
    timed.begin({"table": "t"})
    files = timed.write_files([Network("small", "random", small)], [deployed_files.DEPLOYED])
    assert files["deployed"]["small"].suffix == ".onnx"
    timed.measure(files, rounds=1)
    timed.measure(files, rounds=2)  # the second round only
    (own,) = timed.timings(deployed_files.DEPLOYED).values()
    assert len(own) == 2
    assert all(0 < ms < 100 and 0 < beside < 1000 for ms, beside in own)


def test_a_table_built_under_load_is_judged_by_networks_timed_in_quiet(table: LatencyTable) -> None:
    truth = Truth(table.name, table.profile, tuple(networks()), seed=0, rounds=1, piece=9)
    for occasion in (0, 1):
        timings = {
            name: {"clock_ms": own, "beside_ms": beside, "p95_ms": own, "cpu_share": 1.0}
            for name, ((own, beside), *_) in rounds(table, 0.8).items()
        }
        truth.pieces.append({"occasion": occasion, "round": 0, "number": 0, "timings": timings})
    noisy = dataclasses.replace(
        table, measurement={**table.measurement, "noisy": {"spread_percent": 8.0, "reason": "8 % apart"}}
    )
    found = busy_builds.judged(noisy, truth)
    assert found["true_scores"]["mape_percent"] == pytest.approx(25.0, abs=0.5)
    assert found["true_clock_mape_percent"] == pytest.approx(25.0)
    document = json.loads(
        json.dumps(
            {
                "builds": {
                    "0": {"exit_code": 0, "seconds": 600.0, "said": [], **found},
                    "2": {"exit_code": 5, "seconds": 600.0, "said": ["error: too noisy"]},
                }
            }
        )
    )
    quiet, busy = busy_builds.rows_of(document)
    assert len(quiet) == len(busy) == len(busy_builds.COLUMNS)
    assert (quiet[1], quiet[3]) == (0, "noisy")
    assert (busy[1], busy[3]) == (5, "error: too noisy")
