"""The estimator `zero-cost`: what the proxies say together, on the user's images."""

from __future__ import annotations

import random
from pathlib import Path
from statistics import fmean, pstdev

import pytest

pytest.importorskip("torch")

from train_samples import ARCH, squares

from hwnas.errors import FileFormatError, UsageError
from hwnas.predictors.accuracy import load_accuracy, zero_cost
from hwnas.predictors.accuracy.proxies import proxy_names
from hwnas.space import SearchSpace

FEW = "images=12,side=16,stem=4"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("zero-cost") / "data", train=6, test=2)


@pytest.fixture(autouse=True)
def _few_references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zero_cost, "REFERENCES", 2)


def test_the_published_proxies_are_there_by_their_files_names() -> None:
    assert {"naswot", "synflow", "zico", "grad-norm", "dss"} <= set(proxy_names())


def test_the_reference_networks_are_0_on_average_and_1_apart(data: Path) -> None:
    one = zero_cost.estimator(f"{data},proxy=synflow,inits=1,{FEW}")
    rng, space = random.Random(0), SearchSpace.default()
    values = [one.predict(space.sample(rng)).value for _ in range(2)]
    assert fmean(values) == pytest.approx(0, abs=1e-9) and pstdev(values) == pytest.approx(1)


def test_the_value_is_the_mean_of_the_proxies_and_std_grows_with_their_disagreement(data: Path) -> None:
    single = {
        name: zero_cost.estimator(f"{data},proxy={name},inits=1,{FEW}").predict(ARCH)
        for name in ("synflow", "naswot")
    }
    both = zero_cost.estimator(f"{data},proxy=synflow+naswot,inits=1,{FEW}").predict(ARCH)
    assert both.unit == "sd"
    assert both.value == pytest.approx(fmean(one.value for one in single.values()))
    apart = abs(single["synflow"].value - single["naswot"].value)
    assert both.std == pytest.approx(apart / 2)  # the standard error of two numbers
    assert all(one.std == 0 for one in single.values()), "one proxy, one initialisation: nothing is known"


def test_several_initialisations_tell_the_deviation_of_a_single_proxy(data: Path) -> None:
    estimator = zero_cost.estimator(f"{data},proxy=grad-norm,inits=2,{FEW}")
    first, second = (estimator.scores(ARCH, seed)["grad-norm"] for seed in (0, 1))
    assert first != second
    estimate = estimator.predict(ARCH)
    _, deviation = estimator._scales["grad-norm"]
    assert estimate.std == pytest.approx(abs(first - second) / deviation / 2)


def test_the_same_network_gets_the_same_number_in_another_process_or_order(data: Path) -> None:
    reference = f"zero-cost:{data},proxy=grad-norm,inits=1,{FEW}"
    once, again = load_accuracy(reference), load_accuracy(reference)
    other = SearchSpace.default().sample(random.Random(5))
    again.predict(other)
    assert once.predict(ARCH) == again.predict(ARCH)


def test_what_the_journal_holds_is_not_scored_again_and_its_cost_is_remembered(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = f"{data},proxy=synflow,{FEW},journal={tmp_path / 'scores.jsonl'}"
    first = zero_cost.estimator(reference)
    before, seconds = first.predict(ARCH), first.cpu_seconds(ARCH)
    assert seconds > 0

    def scored_again(*arguments: object, **options: object) -> None:
        raise AssertionError("this network was scored already")

    monkeypatch.setattr(zero_cost, "scores", scored_again)
    again = zero_cost.estimator(reference)
    assert again.predict(ARCH) == before
    assert again.cpu_seconds(ARCH) == pytest.approx(seconds, abs=2e-3)
    with pytest.raises(AssertionError, match="already"):
        zero_cost.estimator(reference.replace("synflow", "dss")).predict(ARCH)
    (tmp_path / "scores.jsonl").write_text("nothing\n")
    with pytest.raises(FileFormatError, match="line 1: not the scores of a network"):
        zero_cost.estimator(reference)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        (None, "looks at images"),
        ("{data},proxy=synflo", "Did you mean 'synflow'"),
        ("{data},image=3", "options of 'zero-cost' are proxy=.*Did you mean 'images'"),
        ("{data},images=0", "images must be a whole number of at least 1, got '0'"),
        ("{data},side=16,side=32", "got side twice"),
        ("{data}-elsewhere", "no such data folder"),
    ],
)
def test_a_wrong_argument_is_explained(data: Path, argument: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        zero_cost.estimator(argument and argument.format(data=data))


def test_too_few_images_are_refused(data: Path) -> None:
    with pytest.raises(UsageError, match="at least 8 images, got 6"):
        zero_cost.estimator(f"{data},images=6,side=16,stem=4").predict(ARCH)
