"""Samplers and engine: only new networks within the budget, and everything from one seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import optuna
import pytest
from search_fakes import (
    all_vectors,
    by_size,
    evaluated,
    latency_ms,
    less_sure_when_large,
    problem,
    small_space,
    table,
)

from hwnas import plugins
from hwnas.errors import HwnasError, InfeasibleError, UsageError
from hwnas.search import Trial, search
from hwnas.search.engines import optuna as engine
from hwnas.search.feasibility import fastest, require_feasible
from hwnas.search.pareto import front, hypervolume
from hwnas.search.samplers.auto import AutoSampler
from hwnas.space.search_space import SearchSpace
from hwnas.space.vectors import Moves, filled

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
        on_trials=trials.extend,
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
    whole = run(sampler, 80)
    assert run(sampler, 80, done=whole[:interrupted_after]) == whole


def test_when_the_space_is_exhausted_the_search_ends_with_all_of_it() -> None:
    within = [vector for vector in all_vectors() if latency_ms(vector) <= 0.5]
    trials = run("auto", 10_000, budget_ms=0.5)
    assert 10 < len(within) < 100
    assert {trial.vector for trial in trials} == set(within)


def test_the_default_sampler_finds_more_of_the_front_than_random_networks_do() -> None:
    points = [(latency_ms(v), -by_size(small_space().decode(v))) for v in all_vectors()]
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
    slowest = max(all_vectors(), key=problem().usage)
    with pytest.raises(HwnasError, match="only networks within the budget are evaluated"):
        evaluated(problem(0.9), slowest)


def test_the_fastest_network_is_what_listing_all_of_them_finds() -> None:
    some = problem(5.0)
    assert some.usage(fastest(some)) == min(map(some.usage, all_vectors()))


def test_a_budget_below_the_fastest_network_is_refused_with_what_is_possible() -> None:
    with pytest.raises(InfeasibleError, match=r"the fastest possible takes 0\.4119 ms estimated") as caught:
        require_feasible(problem(0.4), provenance="estimated")
    assert caught.value.exit_code == 3


def test_a_confidence_leaves_room_for_the_tables_error() -> None:
    plain = search(small_space(), device=table(), budget_ms=0.9, accuracy=by_size, trials=60)
    sure = search(small_space(), device=table(), budget_ms=0.9, accuracy=by_size, trials=60, confidence=0.9)
    slowest, slowest_sure = (max(t.latency.value for t in r.trials) for r in (plain, sure))
    assert slowest_sure < 0.9 / 1.1 < slowest <= 0.9  # the toy table is 10 % off, one deviation


def test_the_front_climbs_the_lower_bound_and_stays_where_it_is_sure() -> None:
    result = search(
        small_space(), device=table(), budget_ms=2.5, accuracy=less_sure_when_large, trials=150, seed=1
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
    space, rng = SearchSpace.default(), np.random.default_rng(0)
    moves = Moves(space)
    a, b = moves.random(200, rng), moves.random(200, rng)
    born = moves.children(a, b, rng)
    for part in moves.parts:
        same = [(born[:, part] == parent[:, part]).all(axis=1) for parent in (a, b)]
        assert (same[0] | same[1]).all()
    for made in (a, born, moves.neighbours(a, rng, changes=2), moves.evened(a, rng), moves.retyped(a, rng)):
        assert [tuple(row) for row in made.tolist()] == [space.repair(row) for row in made.tolist()]
    assert [tuple(row) for row in moves.filled(a).tolist()] == [
        filled(space, tuple(row)) for row in a.tolist()
    ]


def test_a_retyped_network_keeps_all_but_its_attentions_which_are_one_in_each_stage() -> None:
    space, rng = SearchSpace.default(), np.random.default_rng(2)
    moves = Moves(space)
    before = moves.random(300, rng)
    after = moves.retyped(before, rng)
    blocks = [place for stage in moves.stages for place in range(stage.blocks.start, stage.blocks.stop)]
    others = [place for place in range(before.shape[1]) if place not in blocks]
    assert (after[:, others] == before[:, others]).all()
    for row in after.tolist():
        for stage in space.decode(tuple(row)).stages:
            assert len(set(stage.blocks)) == 1
    combinations = {tuple(row[stage.blocks.start] for stage in moves.stages) for row in after.tolist()}
    assert len(combinations) > 40, "most combinations of stages are reached from 300 networks"


def test_vectors_are_repaired_in_arrays_as_the_space_repairs_them_one_by_one() -> None:
    space = SearchSpace.default()
    raw = np.random.default_rng(1).integers(-2, 20, size=(300, len(space.decisions)))
    repaired = Moves(space).repaired(raw)
    assert [tuple(row) for row in repaired.tolist()] == [space.repair(row) for row in raw.tolist()]


def test_random_networks_reach_every_choice() -> None:
    space = SearchSpace.default()
    drawn = Moves(space).random(3000, np.random.default_rng(0))
    for place, decision in enumerate(space.decisions):
        assert set(range(len(decision.choices))) <= set(drawn[:, place].tolist()), decision.name


def test_even_random_networks_have_one_attention_in_each_stage() -> None:
    space = SearchSpace.default()
    drawn = Moves(space).random(200, np.random.default_rng(0), even=True)
    assert [tuple(row) for row in drawn.tolist()] == [space.repair(row) for row in drawn.tolist()]
    for row in drawn.tolist():
        assert all(len(set(stage.blocks)) == 1 for stage in space.decode(row).stages)
    first_blocks = drawn[:, Moves(space).stages[0].blocks.start]
    assert len(set(first_blocks.tolist())) == len(space.stages[0].attention)


def test_a_network_is_shrunk_no_further_than_it_must_be() -> None:
    some, rng = problem(0.9), np.random.default_rng(0)
    slowest, donor = max(all_vectors(), key=some.usage), fastest(some)
    found = Moves(small_space()).shrunk(np.array([slowest] * 50), donor, rng, feasible=some.feasible)
    assert some.feasible(found).all()
    assert donor not in set(map(tuple, found.tolist()))
    within = np.array([donor, donor])
    assert (Moves(small_space()).shrunk(within, donor, rng, feasible=some.feasible) == within).all()


def test_workers_that_ask_before_others_have_told_get_different_networks() -> None:
    some = problem(0.9)
    sampler = AutoSampler(some, seed=0)
    study = quiet_study(sampler)
    seen = set()
    for _ in range(12):
        asked = [study.ask(sampler.ranges) for _ in range(6)]
        for trial in asked:
            vector = small_space().encode(sampler.suggest(trial))
            assert vector not in seen
            seen.add(vector)
            answer = evaluated(some, vector)
            study.tell(trial, (answer.latency.value, answer.accuracy.value))
    assert sampler.pending == ()


def test_what_another_process_of_the_study_evaluated_is_learnt_and_not_proposed_again() -> None:
    some = problem(0.9)
    ours, theirs = AutoSampler(some, seed=0), AutoSampler(some, seed=0)
    study = quiet_study(ours)
    other = optuna.load_study(study_name=study.study_name, storage=study._storage, sampler=theirs)
    vectors = []
    for number in range(60):
        sampler, asker = (ours, study) if number % 2 else (theirs, other)
        trial = asker.ask(sampler.ranges)
        vectors.append(small_space().encode(sampler.suggest(trial)))
        answer = evaluated(some, vectors[-1])
        asker.tell(trial, (answer.latency.value, answer.accuracy.value))
    assert len(set(vectors)) == 60
    assert len(ours.known) >= 59


def test_the_sampler_works_in_a_study_of_ones_own() -> None:
    some = problem(0.9)
    sampler = AutoSampler(some, seed=0)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        arch = sampler.suggest(trial)
        return table().predict(arch).value, by_size(arch)

    study = quiet_study(sampler)
    study.optimize(objective, n_trials=40)
    assert len({tuple(trial.params.items()) for trial in study.trials}) == 40
    assert all(trial.values[0] <= 0.9 for trial in study.trials)


def quiet_study(sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
