"""Samplers and engine: only new networks within the budget, and everything from one seed."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from search_fakes import all_vectors, by_size, less_sure_when_large, problem, small_space, table

from hwnas import plugins
from hwnas.errors import HwnasError, InfeasibleError, UsageError
from hwnas.search import Trial, search
from hwnas.search.engines import optuna as engine
from hwnas.search.fastest import fastest, require_feasible
from hwnas.search.moves import child, filled, neighbour, shrunk, stage_slices
from hwnas.search.pareto import front, hypervolume
from hwnas.space.search_space import SearchSpace

SAMPLERS = plugins.names("search/samplers")


def run(
    sampler: str, wanted: int, *, seed: int = 0, done: Sequence[Trial] = (), budget_ms: float = 0.9
) -> list[Trial]:
    trials = list(done)
    engine.run(
        problem(budget_ms),
        sampler=sampler,
        seed=seed,
        wanted=wanted,
        done=done,
        on_trial=trials.append,
        stop=lambda: False,
    )
    return trials


def test_the_samplers_are_the_files_of_their_folder() -> None:
    assert SAMPLERS == ("auto", "nsga2", "random", "tpe")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_candidate_is_new_within_the_budget_and_of_the_space(sampler: str) -> None:
    trials = run(sampler, 70)
    assert len(trials) == 70
    assert len({trial.id for trial in trials}) == 70
    assert all(trial.latency.value <= 0.9 for trial in trials)
    assert all(small_space().decode(trial.vector).id == trial.id for trial in trials)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_seed_decides_everything_and_another_seed_finds_others(sampler: str) -> None:
    assert run(sampler, 65, seed=3) == run(sampler, 65, seed=3)
    assert run(sampler, 65, seed=3) != run(sampler, 65, seed=4)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("interrupted_after", [1, 37, 60])
def test_a_study_rebuilt_from_its_trials_goes_on_as_if_it_had_not_ended(
    sampler: str, interrupted_after: int
) -> None:
    whole = run(sampler, 110)
    assert run(sampler, 110, done=whole[:interrupted_after]) == whole


def test_when_the_space_is_exhausted_the_search_ends_with_all_of_it() -> None:
    within = [vector for vector in all_vectors() if problem().latency(vector).value <= 0.5]
    trials = run("auto", 10_000, budget_ms=0.5)
    assert 10 < len(within) < 100
    assert {trial.vector for trial in trials} == set(within)


def test_the_default_sampler_finds_more_of_the_front_than_random_networks_do() -> None:
    points = [(problem().latency(v).value, -by_size(small_space().decode(v))) for v in all_vectors()]
    within = [point for point in points if point[0] <= 0.9]
    reference = (0.9, 0.0)
    best = hypervolume([within[index] for index in front(within)], reference)
    found = {
        sampler: hypervolume([(t.latency.value, -t.accuracy.value) for t in run(sampler, 120)], reference)
        / best
        for sampler in ("auto", "random")
    }
    assert found["auto"] > found["random"]
    assert found["auto"] > 0.99


def test_an_over_budget_network_is_never_evaluated_whoever_proposes_it() -> None:
    slowest = max(all_vectors(), key=problem().cost_ms)
    with pytest.raises(HwnasError, match="only networks within the budget are evaluated"):
        problem(0.9).evaluate(slowest)


def test_the_fastest_network_is_what_listing_all_of_them_finds() -> None:
    some = problem(5.0)
    assert some.cost_ms(fastest(some)) == min(map(some.cost_ms, all_vectors()))


def test_a_budget_below_the_fastest_network_is_refused_with_what_is_possible() -> None:
    with pytest.raises(InfeasibleError, match=r"the fastest possible takes 0\.4119 ms estimated") as caught:
        require_feasible(problem(0.4), device="toy", provenance="estimated")
    assert caught.value.exit_code == 3


def test_a_confidence_leaves_room_for_the_tables_error() -> None:
    plain = search(small_space(), device=table(), budget_ms=0.9, accuracy=by_size, trials=60)
    sure = search(small_space(), device=table(), budget_ms=0.9, accuracy=by_size, trials=60, confidence=0.9)
    slowest, slowest_sure = (max(t.latency.value for t in r.trials) for r in (plain, sure))
    assert slowest_sure < 0.9 / 1.1 < slowest <= 0.9  # the toy table is 10 % off, one deviation


def test_the_front_climbs_the_lower_bound_and_stays_where_it_is_sure() -> None:
    result = search(
        small_space(), device=table(), budget_ms=2.5, accuracy=less_sure_when_large, trials=300, seed=1
    )
    assert max(t.accuracy.std for t in result.trials) > 2 * max(c.accuracy.std for c in result.front)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": "nsga3"}, "Did you mean 'nsga2'"),
        ({"budget_ms": float("nan")}, "positive number of milliseconds"),
        ({"confidence": 1.5}, "confidence must be from 0.5"),
        ({"trials": 0}, "trials must be at least 1"),
        ({"accuracy": lambda arch: float("nan")}, "finite number"),
    ],
)
def test_a_wrong_option_is_refused(changes: dict[str, object], message: str) -> None:
    options = {"device": table(), "budget_ms": 0.9, "accuracy": by_size, "trials": 3} | changes
    with pytest.raises(UsageError, match=message):
        search(small_space(), **options)  # type: ignore[arg-type]


def test_moves_stay_in_the_space_and_a_stage_is_inherited_whole() -> None:
    space, rng = SearchSpace.default(), random.Random(0)
    parts = stage_slices(tuple(decision.name for decision in space.decisions))
    for _ in range(200):
        a, b = (space.encode(space.sample(rng)) for _ in range(2))
        born = child(space, a, b, rng)
        assert all(born[part] in (a[part], b[part]) for part in parts)
        near = neighbour(space, a, rng)
        assert near == space.repair(near)
        assert all(value >= 0 for value in filled(space, a))
        assert space.repair(filled(space, a)) == a


def test_a_network_is_shrunk_no_further_than_it_must_be() -> None:
    some, rng = problem(0.9), random.Random(0)
    slowest, donor = max(all_vectors(), key=some.cost_ms), fastest(some)
    found = shrunk(small_space(), slowest, donor, rng, fits=some.fits)
    assert some.fits(found)
    assert found != donor
