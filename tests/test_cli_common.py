"""How a budget and an architecture are named on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hwnas.cli.common import emit_json
from hwnas.errors import ArchError, FileFormatError, UsageError
from hwnas.named import resolve_arch
from hwnas.space import preset, preset_names
from hwnas.units import parse_ms


@pytest.mark.parametrize(
    ("text", "budget_ms"),
    [
        ("20ms", 20.0),
        ("20 ms", 20.0),
        ("0.02s", 20.0),
        ("800us", 0.8),
        ("800µs", 0.8),
        ("1e1ms", 10.0),
        (".5ms", 0.5),
        ("2s", 2000.0),
    ],
)
def test_a_budget_is_a_number_with_a_unit(text: str, budget_ms: float) -> None:
    assert parse_ms(text) == pytest.approx(budget_ms)


@pytest.mark.parametrize(
    "text",
    [
        *("20", "0ms", "-5ms", "nanms", "NaN ms", "infms", "inf", "20 parsecs", "20MS", "ms", "", "1.2.3ms"),
        *("1e400ms", "1e-400ms", "twenty ms", "20ms20ms"),
    ],
)
def test_what_is_no_budget_is_refused_with_the_rule_and_an_example(text: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_ms(text)
    message = str(refusal.value)
    assert f"'{text}'" in message
    assert "20ms" in message
    assert "\n" not in message


def test_a_bare_number_is_answered_with_the_unit_it_may_want() -> None:
    with pytest.raises(UsageError, match="did you mean 20ms"):
        parse_ms("20")


def test_every_preset_goes_by_its_name() -> None:
    for name in preset_names():
        assert resolve_arch(name) == (name, preset(name))


def test_an_architecture_file_goes_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(preset("shvit-s1").to_yaml())
    assert resolve_arch(str(file)) == ("mine", preset("shvit-s1"))


def test_json_of_an_architecture_is_an_architecture_file_too(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps(preset("uniform-t").to_dict()))
    assert resolve_arch(str(file))[1] == preset("uniform-t")


def test_a_mistyped_preset_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no architecture 'uniform-tt'\. Did you mean 'uniform-t'\?"):
        resolve_arch("uniform-tt")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no file .*absent\.yaml"):
        resolve_arch(str(tmp_path / "absent.yaml"))


def test_a_file_that_is_not_yaml_is_named_with_the_line(tmp_path: Path) -> None:
    file = tmp_path / "torn.yaml"
    file.write_text("format: 1\nstages: [")
    with pytest.raises(FileFormatError, match=r"torn\.yaml.*line"):
        resolve_arch(str(file))


def test_every_broken_rule_of_a_file_is_listed_with_its_path(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(preset("uniform-t").to_yaml().replace("width: 64", "width: 65").replace("224", "4"))
    with pytest.raises(ArchError) as refusal:
        resolve_arch(str(file))
    lines = str(refusal.value).splitlines()
    assert any("resolution" in line and "4" in line for line in lines)
    assert any("stages[0]" in line and "width=65 and heads=4" in line for line in lines)
    assert all("wrong.yaml" in line for line in lines)


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        resolve_arch(f"{tmp_path / 'nowhere'}#1")


def test_json_goes_to_stdout_whole_and_alone(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json({"schema": 1, "name": "µ"})
    said = capsys.readouterr()
    assert json.loads(said.out) == {"schema": 1, "name": "µ"}
    assert said.err == ""


def test_json_never_holds_what_json_has_not() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        emit_json({"schema": 1, "latency_ms": float("nan")})
