"""Whole networks measured here, in several fresh processes and in random order."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hwnas.board.timing import Rules, median
from hwnas.errors import HwnasError
from hwnas.latency.link import CellError, Link
from hwnas.latency.profile import DeviceProfile

__all__ = ["NETWORK_RULES", "MeasuredNetwork", "measure_networks"]

NETWORK_RULES = Rules(warmup_s=0.2, warmup_limit_s=2.0, width=0.01, limit_s=2.0)


@dataclass(frozen=True, slots=True)
class MeasuredNetwork:
    """One network over all rounds."""

    rounds_ms: tuple[float, ...]
    """The median of each round; each is a process of its own."""
    p95_ms: float
    """The median of the rounds' 95th percentiles."""
    cpu_share: float
    """The least share of the CPU that a round got."""

    @property
    def ms(self) -> float:
        return median(self.rounds_ms)

    @property
    def low_ms(self) -> float:
        """The fastest round."""
        return min(self.rounds_ms)

    @property
    def high_ms(self) -> float:
        """The slowest round."""
        return max(self.rounds_ms)


def measure_networks(
    models: Mapping[str, Callable[[], bytes]],
    *,
    profile: DeviceProfile,
    start: Callable[[], Link],
    rng: random.Random,
    rounds: int = 3,
    rules: Rules = NETWORK_RULES,
    report: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> dict[str, MeasuredNetwork]:
    """Times each model (made when its turn comes) once a round, in a new order each round.

    Raises HwnasError when a network does not run, BoardError when the agent is gone.
    """
    answers: dict[str, list[dict[str, float]]] = {name: [] for name in models}
    done = 0
    for _ in range(rounds):
        names = list(models)
        rng.shuffle(names)
        link = start()
        try:
            for name in names:
                try:
                    answer = link.measure(
                        models[name](),
                        rules=rules,
                        threads=profile.threads,
                        batch=profile.batch,
                        precision=profile.precision,
                    )
                except CellError as error:
                    raise HwnasError(f"{name} does not run on {profile.runtime}: {error}") from None
                answers[name].append(answer)
                done += 1
                report(name, done, rounds * len(models))
        finally:
            link.close()
    return {
        name: MeasuredNetwork(
            rounds_ms=tuple(answer["median_ms"] for answer in own),
            p95_ms=median([answer["p95_ms"] for answer in own]),
            cpu_share=min(answer["cpu_share"] for answer in own),
        )
        for name, own in answers.items()
    }
