"""Optuna's own sampler suites, over all samplers of hwnas."""

from __future__ import annotations

from collections.abc import Callable

import optuna
import pytest
from optuna.distributions import IntDistribution
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase
from search_fakes import problem

from hwnas import plugins
from hwnas.errors import UsageError


class OfHwnas:
    """What makes each sampler, as the suites take it."""

    @pytest.fixture(params=plugins.names("search/samplers"))
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        module = plugins.load("search/samplers", request.param)
        return lambda: module.sampler(problem(0.9), seed=0)


class TestBasic(OfHwnas, BasicSamplerTestCase):
    """Samplers in general."""


class TestMultiObjective(OfHwnas, MultiObjectiveSamplerTestCase):
    """Samplers with several objectives."""


def test_another_search_space_is_refused_and_a_part_of_ones_own_is_honoured() -> None:
    sampler = plugins.load("search/samplers", "random").sampler(problem(0.9), seed=0)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    foreign = {"width": IntDistribution(0, 3)}
    with pytest.raises(UsageError, match="space 'small', got another search space: width"):
        sampler.sample_relative(study, study.ask()._cached_frozen_trial, foreign)
    name, range_ = next(iter(sampler.ranges.items()))
    with pytest.raises(UsageError, match=f"got another search space: {name}"):
        sampler.sample_relative(study, study.ask()._cached_frozen_trial, {name: IntDistribution(0, 99)})
    found = sampler.sample_relative(study, study.ask()._cached_frozen_trial, {name: range_})
    assert list(found) == [name]
