"""The front that a person is shown: nobody on it is dominated, by value or by lower bound."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from search_fakes import trial

from hwnas.search.front import as_printed, best
from hwnas.search.trial import Trial

trials = st.lists(
    st.tuples(st.integers(1, 9), st.integers(60, 70), st.integers(0, 4)).map(
        lambda numbers: trial(numbers[0], numbers[1], std=numbers[2])
    ),
    max_size=9,
)


def dominates(a: Trial, b: Trial, *, by_value: bool) -> bool:
    """Whether a is as fast and as good as b, and in one of the two better."""
    good_a, good_b = (each.accuracy.value if by_value else each.accuracy.lower_bound() for each in (a, b))
    fast_a, fast_b = a.latency.value, b.latency.value
    return fast_a <= fast_b and good_a >= good_b and (fast_a < fast_b or good_a > good_b)


def is_consistent(front: list[Trial]) -> bool:
    return not any(
        dominates(a, b, by_value=by_value)
        for a, b in itertools.permutations(front, 2)
        for by_value in (True, False)
    )


@given(trials)
def test_nobody_on_the_front_is_dominated_and_the_best_comes_first(some: list[Trial]) -> None:
    front = best(some)
    assert is_consistent(front)
    accuracies = [each.accuracy.value for each in front]
    assert accuracies == sorted(accuracies, reverse=True)
    assert bool(front) == bool(some)


@given(trials)
def test_of_all_consistent_sets_of_what_is_searched_for_it_is_a_largest(some: list[Trial]) -> None:
    searched = [one for one in some if not any(dominates(other, one, by_value=False) for other in some)]
    distinct = list({one.id: one for one in searched}.values())
    largest = max(
        (
            size
            for size in range(len(distinct) + 1)
            for chosen in itertools.combinations(distinct, size)
            if is_consistent(list(chosen))
        ),
        default=0,
    )
    assert len(best(some)) == largest


def test_a_rare_kind_is_not_pushed_out_by_a_frequent_one() -> None:
    frequent = [trial(10 + step, 70 + step, std=5.0, name=f"frequent{step}") for step in range(6)]
    rare = trial(16.0, 73.5, std=0.5, name="rare")  # surer than all of them; two have higher values
    kinds = {"rare": "single-head"}
    every = [one.id for one in reversed(frequent)]
    assert [one.id for one in best([*frequent, rare])] == every
    by_kind = best([*frequent, rare], kind=lambda one: kinds.get(one.id, "reuse"))
    assert [one.id for one in by_kind] == ["rare", *every[2:]]


def test_networks_that_print_the_same_are_one_and_the_smaller_stands_for_them() -> None:
    large, small = trial(10.0001, 70.0, params=9), trial(10.0002, 70.0, params=8)
    assert best([large, small]) == [small]
    assert as_printed(19.4438) == 19.44


def test_a_sure_network_beats_a_promising_one_at_the_same_latency() -> None:
    sure, promising = trial(10.0, 70.0, std=0.5), trial(10.0, 71.0, std=3.0)
    assert best([promising, sure]) == [sure]
