"""The public API: `import hwnas`, and what its names do."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hwnas
import hwnas.api
from hwnas.errors import InfeasibleError, SpaceError, UsageError

NAMES = {
    *("ArchSpec", "Estimate", "HwnasError", "LatencyTable", "SearchSpace", "preset", "preset_names"),
    *("search", "load_run", "Run", "Front", "Plot"),
    *("train", "load_model", "TrainedModel", "export", "ExportedModel"),
    *("measure", "Measurements", "build_table", "device_names"),
}
"""The surface. A name that goes, or comes, is a change for users: say so in CHANGELOG.md."""


def test_the_surface_is_what_this_file_says() -> None:
    assert set(hwnas.__all__) == NAMES
    assert set(dir(hwnas)) >= NAMES
    for name in NAMES:
        assert callable(getattr(hwnas, name)), name


def test_a_type_checker_sees_the_same_names() -> None:
    tree = ast.parse(Path(hwnas.__file__).read_text(encoding="utf-8"))
    declared = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("hwnas.")
        for alias in node.names
    }
    assert declared == NAMES
    assert Path(hwnas.__file__).with_name("py.typed").is_file()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        _ = hwnas.serach  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["search", "train", "export", "measure"])
def test_a_package_is_called_as_the_function_of_its_name(name: str) -> None:
    package = importlib.import_module(f"hwnas.{name}")
    assert getattr(hwnas, name) is package
    assert inspect.signature(package) == inspect.signature(getattr(hwnas.api, name))


def test_the_order_of_imports_does_not_matter() -> None:
    code = """
import hwnas
assert callable(hwnas.search)
from hwnas.search import Candidate, SearchResult, search
from hwnas.space import SearchSpace
import hwnas.search.run
assert callable(hwnas.search) and callable(search) and hwnas.search.run.load_run
assert hwnas.search is not search
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "module",
    ["hwnas.units", "hwnas.api.searching", "hwnas.space.search_space", "hwnas.predictors.latency.table"],
)
def test_the_examples_of_the_docstrings_are_true(module: str) -> None:
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted > 0
    assert found.failed == 0


def test_spaces_and_tables_are_loaded_by_name_or_path(tmp_path: Path) -> None:
    space = hwnas.SearchSpace.load("default")
    assert space == hwnas.SearchSpace.default()
    with pytest.raises(SpaceError, match="Did you mean 'default'"):
        hwnas.SearchSpace.load("defalt")
    table = hwnas.LatencyTable.load("rpi4")
    table.save(tmp_path / "mine.yaml")
    assert hwnas.LatencyTable.load(tmp_path / "mine.yaml").digest == table.digest


def test_what_is_printed_is_one_short_line() -> None:
    table = hwnas.LatencyTable.load("rpi4")
    estimate = table.predict(hwnas.preset("uniform-t"))
    assert repr(
        table
    ) == "LatencyTable(rpi4: estimated, onnxruntime fp32, 1 thread(s), batch 1, coefficients)" or (
        repr(table).startswith("LatencyTable(rpi4: estimated, ") and len(repr(table)) < 120
    )
    assert repr(estimate) == f"Estimate({estimate.value:.3g} ms, {estimate.low:.3g}-{estimate.high:.3g})"
    assert repr(hwnas.Estimate(75.06, 0.61, unit="%")) == "Estimate(75.1 +- 0.61 %)"
    assert repr(hwnas.Estimate(75.06)) == "Estimate(75.1)"
    assert len(repr(hwnas.LatencyTable.load("cpu-x86"))) < 120


def test_a_search_takes_times_in_any_form_and_returns_a_run() -> None:
    by_text = hwnas.search(targets={"rpi4": "20ms"}, trials=30)
    by_number = hwnas.search("default", targets={"rpi4": 20}, trials=30, seed=0, accuracy="published")
    by_table = hwnas.search(targets=[(hwnas.LatencyTable.load("rpi4"), "0.02s")], trials=30)
    assert [one.id for one in by_text.front] == [one.id for one in by_number.front]
    assert [one.id for one in by_text.front] == [one.id for one in by_table.front]
    best = by_text.front[0]
    assert isinstance(best.arch, hwnas.ArchSpec)
    assert best.latency.value <= 20
    assert best.accuracy.value == max(one.accuracy.value for one in by_text.front)
    assert len(by_text.front[1:]) == len(by_text.front) - 1
    assert "\n" not in repr(by_text) and "within 20 ms on rpi4" in repr(by_text) and len(repr(by_text)) < 200
    assert by_text._repr_html_().count("<tr>") == 1 + min(20, len(by_text.front))


def test_a_throughput_is_a_budget_too() -> None:
    table = hwnas.LatencyTable.load("cpu-x86")
    run = hwnas.search(targets={"cpu-x86": "250/s"}, trials=30)
    assert run.result.config.targets[0].budget_ms == pytest.approx(table.profile.run_ms(250))


def test_several_targets_hold_together() -> None:
    run = hwnas.search(targets={"rpi4": "20ms", "rpi5": "8ms"}, trials=30)
    assert all(one.latency.value <= 20 and one.also["latency rpi5"].value <= 8 for one in run.front)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (None, "latency budget"),
        ({"rpi4": "20"}, "did you mean 20ms"),
        ({"rpi4": -1.0}, "positive"),
        ({"rpi4": True}, "invalid time"),
        ({"rp4": "20ms"}, "Did you mean 'rpi4'"),
        ("rpi4", "targets map devices to budgets"),
        (["rpi4"], "targets map devices to budgets"),
    ],
)
def test_a_wrong_target_is_refused_with_what_to_give(targets: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        hwnas.search(targets=targets, trials=30)  # type: ignore[operator]


def test_a_budget_that_nothing_meets_is_infeasible() -> None:
    with pytest.raises(InfeasibleError):
        hwnas.search(targets={"rpi4": "10us"}, trials=30)


def test_a_run_on_the_disk_is_read_resumed_and_reported(tmp_path: Path) -> None:
    run = hwnas.search(targets={"rpi4": "20ms"}, trials=30, seed=0, out=tmp_path / "a")
    again = hwnas.load_run(str(tmp_path / "a"))
    assert [one.id for one in again.front] == [one.id for one in run.front]
    more = again.resume(trials=45)
    assert len(more.result.trials) == 45 and more.is_complete
    report = more.report()
    assert report == tmp_path / "a" / "report.html" and report.stat().st_size > 1000
    other = hwnas.search(targets={"rpi4": "12ms"}, start_from=more, trials=50)
    assert all(one.latency.value <= 12 for one in other.front)


def test_a_run_in_memory_says_what_it_needs_for_a_report() -> None:
    run = hwnas.search(targets={"rpi4": "20ms"}, trials=30)
    with pytest.raises(UsageError, match="run directory"):
        run.resume(trials=40)
    with pytest.raises(UsageError, match="run directory"):
        run.report()


def test_frames_have_a_row_for_each_network_and_op() -> None:
    pytest.importorskip("pandas")
    run = hwnas.search(targets={"rpi4": "20ms"}, trials=30)
    frame = run.front.to_frame()
    assert list(frame["id"]) == [one.id for one in run.front]
    assert hwnas.ArchSpec.from_dict(frame["arch"][0]).id == frame["id"][0]
    table = hwnas.LatencyTable.load("cpu-x86")
    rows = table.to_frame()
    assert len(rows) == len(table.rows) and {"kind", "key", "ms"} <= set(rows.columns)
    assert {"feature", "ms_per_unit"} == set(hwnas.LatencyTable.load("rpi4").to_frame().columns)


def test_a_plot_is_drawn_by_its_name(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run = hwnas.search(targets={"rpi4": "20ms"}, trials=30)
    plot = run.plot("front")
    assert plot.svg.lstrip().startswith("<") and "<svg" in plot.svg and plot.png[1:4] == b"PNG"
    assert plot.save(tmp_path / "front.png").read_bytes() == plot.png
    with pytest.raises(UsageError, match=r"\.svg or \.png"):
        plot.save(tmp_path / "front.pdf")
    with pytest.raises(UsageError, match="Did you mean 'front'"):
        run.plot("fron")


def test_a_network_goes_from_training_to_a_measured_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("timm")
    pytest.importorskip("onnxruntime")
    from train_samples import ARCH, squares

    monkeypatch.chdir(tmp_path)
    data = squares(tmp_path / "photos")
    small = {"epochs": 1, "batch_size": 12, "workers": 0, "image_size": 16, "stem_stride": 4}
    model = hwnas.train(ARCH, data=data, recipe="small", overrides=small, out="trained", accelerator="cpu")
    assert model.arch.classes == 3 and model.classes == ("blue", "green", "red")
    assert "trained" in repr(model) and "3 classes" in repr(model)
    assert model.evaluate(str(data), accelerator="cpu").images == 24
    assert [one.top1_percent for one in hwnas.load_model("trained").history] == [
        one.top1_percent for one in model.history
    ]
    with pytest.raises(UsageError, match="epoch"):
        hwnas.train(ARCH, data=data, recipe="small", overrides={"epoch": 1}, out="no", accelerator="cpu")
    with pytest.raises(UsageError, match="unknown accelerator 'tpu'"):
        model.evaluate(data, accelerator="tpu")

    file = hwnas.export(model, "model.onnx", evaluate=data)
    assert Path(file).is_file() and file.card_path.is_file() and file.card["id"] == model.arch.id
    assert file.parity_max_abs is not None and "onnx fp32" in repr(file)
    assert file.card["accuracy"]["exported"]["images"] == 24
    with pytest.raises(UsageError, match="no folder"):
        hwnas.export(model, "nowhere/model.onnx")

    table = hwnas.LatencyTable.load("cpu-x86")
    found = hwnas.measure([file, model.arch], rounds=1, compare_with=table, allow_mismatch=True)
    assert [row["name"] for row in found] == ["model.onnx", model.arch.id]
    assert all(row["measured_ms"] > 0 for row in found)
    assert "model.onnx" in repr(found)
    if importlib.util.find_spec("pandas"):
        assert len(found.to_frame()) == 2


def test_a_run_gives_its_budget_to_the_networks_that_are_trained(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    from train_samples import squares

    from hwnas.errors import OverBudgetError

    data = squares(tmp_path / "photos")
    run = hwnas.search(targets={"rpi4": "20ms"}, trials=30, seed=0)
    with pytest.raises(OverBudgetError, match="over the 20 ms budget"):
        hwnas.train(
            run.front[0],
            data=data,
            run=run,
            recipe="small",
            overrides={"image_size": 320, "stem_stride": 4},
            out=tmp_path / "no",
        )
    assert not (tmp_path / "no").exists()


USER_SCRIPT = """
import hwnas
from hwnas.search import SearchResult
from hwnas.space import preset


def best(budget: str) -> hwnas.ArchSpec:
    run: hwnas.Run = hwnas.search("default", targets={"rpi4": budget}, trials=200, seed=0)
    result: SearchResult = run.result
    assert result.is_complete
    reveal_type(run.front[0].latency.value)
    return run.front[0].arch


def train(arch: hwnas.ArchSpec) -> float:
    model = hwnas.train(arch, data="photos", recipe="small", overrides={"epochs": 8}, out="trained")
    file = hwnas.export(model, "model.onnx")
    for row in hwnas.measure([file, preset("uniform-t")], compare_with=hwnas.LatencyTable.load("cpu-x86")):
        print(row["measured_ms"])
    reveal_type(hwnas.build_table("my-pi", host="pi@raspberrypi", minutes=10))
    return model.evaluate("photos").top1_percent


hwnas.search(budget="20ms")
"""


@pytest.mark.slow
def test_the_wheel_installed_elsewhere_has_types_tables_and_a_front(tmp_path: Path) -> None:
    """Built, installed without the repository, searched, and a user's script checked with mypy --strict."""
    root = Path(hwnas.__file__).parents[1]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(root)]
    if subprocess.run([sys.executable, "-c", "import hatchling"], capture_output=True).returncode:
        build.remove("--no-build-isolation")
    subprocess.run(build, check=True)
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    assert (site / "hwnas" / "py.typed").is_file()
    assert (site / "hwnas" / "schemas" / "search.json").is_file()
    environment = {**os.environ, "PYTHONPATH": str(site), "MYPYPATH": str(site)}
    code = (
        "import hwnas; run = hwnas.search(targets={'rpi4': '20ms'}, trials=30);"
        "from hwnas.gallery import entry; entry('rpi4-20ms').arch;"
        "print(hwnas.__file__, len(run.front))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.stdout.startswith(str(site)) and int(done.stdout.split()[1]) > 0
    (tmp_path / "user.py").write_text(USER_SCRIPT)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "user.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    errors = [line for line in checked.stdout.splitlines() if "error:" in line]
    assert len(errors) == 1 and 'Unexpected keyword argument "budget"' in errors[0], checked.stdout
    assert 'Revealed type is "float"' in checked.stdout.replace("builtins.", "")
    assert "LatencyTable" in checked.stdout
