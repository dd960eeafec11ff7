"""Searches that are compared, each asked in the same way: so many new networks, all within the budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas import plugins
from hwnas.search.engines import optuna as engine
from hwnas.search.feasibility import fastest
from hwnas.search.problem import Problem
from hwnas.search.trial import Trial
from hwnas.space.vectors import Moves

__all__ = ["METHODS", "evaluated"]

METHODS = {
    "hwnas": "auto",
    "Optuna NSGA-II": "nsga2",
    "Optuna TPE": "tpe",
    "random": "random",
    "pymoo NSGA-II": "pymoo",
}
"""By the name in the table: the sampler, or pymoo."""
POPULATION = 50
"""As Optuna's; pymoo's own default, 100, would leave five generations of 500 evaluations."""


def evaluated(method: str, problem: Problem, *, wanted: int, seed: int) -> list[Trial]:
    """The first `wanted` networks that a method of METHODS evaluates, in its order."""
    if METHODS[method] == "pymoo":
        return _pymoo(problem, wanted=wanted, seed=seed)
    assert METHODS[method] in plugins.names("search/samplers")
    trials: list[Trial] = []
    engine.run(
        problem,
        sampler=METHODS[method],
        seed=seed,
        wanted=wanted,
        done=(),
        on_trials=trials.extend,
        stop=lambda: False,
    )
    return trials


def _pymoo(problem: Problem, *, wanted: int, seed: int) -> list[Trial]:
    """pymoo's NSGA-II with its operators for whole numbers; what does not fit is shrunk until it does.

    The first population is random networks treated so, as every child is.
    """
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.evaluator import Evaluator
    from pymoo.core.problem import Problem as PymooProblem
    from pymoo.core.repair import Repair
    from pymoo.core.sampling import Sampling
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.problems.static import StaticProblem

    moves = Moves(problem.space)
    donor, rng = fastest(problem), np.random.default_rng(seed)

    class WithinBudget(Repair):  # type: ignore[misc]
        def _do(self, _: Any, X: Any, **__: Any) -> NDArray[np.int64]:  # noqa: N803
            rounded = moves.repaired(np.rint(X).astype(np.int64))
            return moves.filled(moves.shrunk(rounded, donor, rng, feasible=problem.feasible))

    class Networks(Sampling):  # type: ignore[misc]
        def _do(self, _: Any, n_samples: int, **__: Any) -> NDArray[np.int64]:
            return moves.filled(moves.random(n_samples, rng))

    mended = WithinBudget()
    algorithm = NSGA2(
        pop_size=POPULATION,
        sampling=Networks(),
        crossover=SBX(prob=1.0, eta=3.0, vtype=float, repair=mended),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=mended),
        repair=mended,
        eliminate_duplicates=True,
    )
    ranges = PymooProblem(n_var=len(moves.counts), n_obj=2, xl=0, xu=moves.counts - 1, vtype=int)
    algorithm.setup(ranges, termination=("n_gen", 10**6), seed=seed, verbose=False)
    known: dict[tuple[int, ...], Trial] = {}
    while len(known) < wanted:
        asked = algorithm.ask()
        values = []
        for row in moves.repaired(np.asarray(asked.get("X"), dtype=np.int64)).tolist():
            vector = tuple(row)
            if vector not in known:
                known[vector] = problem.evaluated(
                    [vector], [problem.accuracy.predict(problem.space.decode(vector))]
                )[0]
            values.append(_values(known[vector]))
        Evaluator().eval(StaticProblem(ranges, F=np.array(values)), asked)
        algorithm.tell(infills=asked)
    return list(known.values())[:wanted]


def _values(trial: Trial) -> Sequence[float]:
    return trial.latency.value, -trial.accuracy.lower_bound()
