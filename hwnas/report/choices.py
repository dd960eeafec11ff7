"""Which choices of the search space the front prefers: their shares there and among all evaluated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwnas.search.run import SearchResult
from hwnas.space.search_space import AttentionOption, SearchSpace

__all__ = ["Preference", "Share", "preferences", "strongest"]

ORDER = ("attention", "kernels", "width", "depth", "heads", "partial ratio", "ffn ratio", "layout")
"""What is chosen, by stage, in the order of the report; then the choices of the whole network."""

Vectors = Sequence[tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Share:
    """One choice, and how often it is taken, in parts of 1."""

    choice: str
    front: float
    evaluated: float


@dataclass(frozen=True, slots=True)
class Preference:
    """What one decision came to. Its shares sum up to 1 over the choices, where anybody had to decide."""

    what: str
    """As `width`."""
    stage: int | None
    """From 1; None for a choice of the whole network."""
    shares: tuple[Share, ...]
    """In the space's own order."""


def preferences(result: SearchResult) -> tuple[Preference, ...]:
    """Every decision with more than one choice taken by an evaluated network, stage by stage.

    Attention, kernels, heads and partial ratios count over blocks, the rest over networks. Kernels,
    heads and ratios count over blocks whose attention has them.
    """
    known = {trial.id: trial.vector for trial in result.trials}
    front = [known[candidate.id] for candidate in result.front]
    evaluated = list(known.values())
    counted = [
        (
            what,
            stage,
            _counts(result.space, what, places, front),
            _counts(result.space, what, places, evaluated),
        )
        for what, stage, places in _decisions(result.space)
    ]
    counted.sort(key=lambda one: ORDER.index(one[0]) if one[0] in ORDER else len(ORDER))
    return tuple(
        Preference(what, stage, _shares(on_front, among_all))
        for what, stage, on_front, among_all in counted
        if len(among_all) > 1
    )


def strongest(found: Iterable[Preference], *, most: int = 5) -> list[tuple[Preference, Share]]:
    """The choices whose share of the front exceeds that among all evaluated the most."""
    pairs = [(preference, share) for preference in found for share in preference.shares]
    pairs = [(preference, share) for preference, share in pairs if share.front > share.evaluated]
    return sorted(pairs, key=lambda pair: pair[1].evaluated - pair[1].front)[:most]


def _decisions(space: SearchSpace) -> Iterator[tuple[str, int | None, list[int]]]:
    """What is decided, in which stage, and at which places of a vector."""
    places: dict[tuple[str, int | None], list[int]] = {}
    for place, decision in enumerate(space.decisions):
        if not decision.name.startswith("stages."):
            places.setdefault((decision.name.replace("_", " "), None), []).append(place)
            continue
        _, index, what, *_ = decision.name.split(".")
        for each in ("attention", "kernels", "heads", "partial ratio") if what == "blocks" else (what,):
            places.setdefault((each.replace("_", " "), int(index) + 1), []).append(place)
    for (what, stage), of in places.items():
        yield what, stage, of


def _counts(space: SearchSpace, what: str, places: Sequence[int], vectors: Vectors) -> dict[str, int]:
    """How often each choice is taken, in the space's order; choices that nobody took are left out."""
    counts: dict[str, int] = {}
    for place in places:
        choices: Sequence[Any] = space.decisions[place].choices
        taken = Counter(vector[place] for vector in vectors)
        for number, choice in enumerate(choices):
            name = _named(what, choice)
            if name is not None:
                counts[name] = counts.get(name, 0) + taken[number]
    return {name: count for name, count in counts.items() if count}


def _named(what: str, choice: Any) -> str | None:
    """The choice in words; None when it does not decide this."""
    if not isinstance(choice, AttentionOption):
        return str(choice)
    attention = choice.attention
    if what == "attention":
        return "none" if attention is None else attention.type
    if what == "partial ratio":
        return None if choice.ratio is None else f"1/{choice.ratio:g}"
    value = getattr(attention, what, None)
    return "-".join(map(str, value)) if isinstance(value, tuple) else None if value is None else str(value)


def _shares(on_front: Mapping[str, int], among_all: Mapping[str, int]) -> tuple[Share, ...]:
    front, evaluated = sum(on_front.values()) or 1, sum(among_all.values()) or 1
    return tuple(
        Share(name, on_front.get(name, 0) / front, count / evaluated) for name, count in among_all.items()
    )
