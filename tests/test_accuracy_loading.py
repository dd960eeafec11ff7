"""How an accuracy estimator is named, and what a function of the user's may return."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hwnas import plugins
from hwnas.errors import UsageError
from hwnas.estimate import Estimate
from hwnas.predictors.accuracy import load_accuracy
from hwnas.predictors.accuracy.published import PublishedAccuracy
from hwnas.space.presets import preset

ARCH = preset("uniform-t")


def test_published_is_a_plug_in_by_its_file_name() -> None:
    assert isinstance(load_accuracy("published"), PublishedAccuracy)
    assert "published" in plugins.names("predictors/accuracy")


def test_a_wrong_name_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="Did you mean 'published'"):
        load_accuracy("publishd")


def test_a_function_is_named_by_module_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_accuracy.py").write_text("def by_width(arch):\n    return arch.stages[-1].width / 4\n")
    monkeypatch.syspath_prepend(tmp_path)
    predictor = load_accuracy("my_accuracy:by_width")
    assert predictor.predict(ARCH) == Estimate(48.0, unit="%") and predictor.unit == "%"


@pytest.mark.parametrize(
    ("reference", "said"),
    [("no_such_module:f", "no module 'no_such_module'"), ("math:accuracy", "has no function 'accuracy'")],
)
def test_a_missing_module_or_function_is_named(reference: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_accuracy(reference)


def test_a_function_is_found_in_the_current_folder_whatever_started_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed `hwnas` has its own folder first on the path, not the user's."""
    (tmp_path / "accuracy_of_this_folder.py").write_text("def fixed(arch):\n    return 70\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(Path.cwd()))])
    assert load_accuracy("accuracy_of_this_folder:fixed").predict(ARCH).value == 70


def test_what_follows_a_plug_ins_name_is_its_argument_and_the_name_wins_over_a_module(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str | None] = []
    module = SimpleNamespace(estimator=lambda argument: made.append(argument) or load_accuracy("published"))
    real = plugins.load
    monkeypatch.setattr(plugins, "names", lambda folder: ("math", "published"))
    monkeypatch.setattr(
        plugins, "load", lambda folder, name: module if name == "math" else real(folder, name)
    )
    load_accuracy("math:runs/17")
    load_accuracy("math")
    assert made == ["runs/17", None]


@pytest.mark.parametrize("answer", [71.5, 71, np.float32(71.5), Estimate(71.5, 0.5)])
def test_a_function_may_return_a_number_or_an_estimate(answer: Any) -> None:
    estimate = load_accuracy(lambda arch: answer).predict(ARCH)
    assert estimate.value == pytest.approx(getattr(answer, "value", answer)) and estimate.unit == "%"


@pytest.mark.parametrize("answer", [math.nan, math.inf, None, "71.5", True, np.array([71.5])])
def test_anything_else_is_refused_with_the_networks_id(answer: Any) -> None:
    with pytest.raises(UsageError, match=f"finite number or an Estimate, got .* for network {ARCH.id}"):
        load_accuracy(lambda arch: answer).predict(ARCH)


def test_what_a_function_raises_is_reported_with_its_name_and_the_networks_id() -> None:
    def broken(arch: object) -> float:
        return 1 / 0

    with pytest.raises(UsageError, match=f"broken' failed on network {ARCH.id}: ZeroDivisionError"):
        load_accuracy(broken).predict(ARCH)


def test_an_error_of_hwnas_itself_passes_as_it_is() -> None:
    def refusing(arch: object) -> float:
        raise UsageError("my rule")

    with pytest.raises(UsageError, match=r"^my rule$"):
        load_accuracy(refusing).predict(ARCH)


def test_a_predictor_is_used_as_it_is_and_a_function_keeps_its_unit() -> None:
    predictor = load_accuracy("published")
    assert load_accuracy(predictor) is predictor

    def negative_loss(arch: object) -> float:
        return -1.5

    negative_loss.unit = "nats"  # type: ignore[attr-defined]
    assert load_accuracy(negative_loss).predict(ARCH).unit == "nats"


def test_nothing_else_passes_for_an_estimator() -> None:
    wrong: Callable[..., Any] = load_accuracy
    with pytest.raises(UsageError, match="got 71"):
        wrong(71)
