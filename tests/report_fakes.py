"""What the tests of the report share: a page read back, and runs of several devices and objectives."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

from search_fakes import all_vectors, by_size, less_sure_when_large, small_space, table

from hwnas.estimate import Estimate
from hwnas.predictors.latency import Coefficients, LatencyTable, Row
from hwnas.search import SearchResult, search
from hwnas.search.verification import Corrected, MeasuredCandidate, Verification
from hwnas.space.ops import lower

EMPTY = {"meta", "br", "input", "img"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails on a tag that is not closed in its place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["script"]:
            self.scripts.append(data)
        elif self._open[-1:] != ["style"]:
            self.text += data + "\n"

    def charts(self) -> list[str]:
        """What each chart is said to show."""
        return [
            attributes["aria-label"] or ""
            for tag, attributes in self.tags
            if tag == "div" and attributes.get("class") == "chart"
        ]

    def specs(self) -> dict[str, Any]:
        """The Vega-Lite specification of each chart, by name."""
        specs: dict[str, Any] = json.loads(self.scripts[0])["specs"]
        return specs


def marks(spec: Any, kind: str) -> list[list[dict[str, Any]]]:
    """The data of each layer of a chart that has this mark, in the order they are drawn."""
    layers = spec.get("layer", [spec])
    return [layer["data"]["values"] for layer in layers if layer["mark"]["type"] == kind]


def front_points(spec: Any) -> list[dict[str, Any]]:
    """The networks of the fronts in a chart."""
    return [point for points in marks(spec, "point") for point in points if "rank" in point]


def loads_nothing(text: str) -> bool:
    """Whether a page is whole by itself: no tag loads anything, and its policy forbids every request.

    Vega's own text names addresses (of SVG's namespace, of its editor), which the policy keeps it from.
    """
    page = Page(text)
    policy = next(
        attributes["content"] or ""
        for tag, attributes in page.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    own = text.replace((files("hwnas.report") / "templates" / "vega.js").read_text("utf-8"), "")
    return (
        len(own) < len(text)
        and rules["default-src"] == "'none'"
        and rules["script-src"] == rules["style-src"] == "'unsafe-inline'"
        and rules["img-src"] == "data:"
        and not set(rules) - {"default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"}
        and not {tag for tag, _ in page.tags} & {"link", "iframe", "object"}
        and not {name for _, attributes in page.tags for name in attributes} & {"srcset"}
        and all((attributes.get("src") or "data:").startswith("data:") for _, attributes in page.tags)
        and all((attributes.get("href") or "#").startswith("#") for _, attributes in page.tags)
        and not any(word in own for word in ("http:", "https:", "url(", "@import", "eval("))
    )


def other_board(name: str = "dear-nodes") -> LatencyTable:
    """A board on which a node is dear and a MAC is cheap: it orders networks otherwise than `toy`."""
    return dataclasses.replace(table(name), coefficients=Coefficients((2e-8, 2e-8, 2e-8, 0.0, 0.0, 0.03)))


@cache
def board_with_tails() -> LatencyTable:
    """A measured board with a row for every op of the small space, each slower now and then than usual."""
    rows: dict[str, Row] = {}
    for vector in all_vectors():
        for op in lower(small_space().decode(vector)):
            ms = table().op_latency_ms(op)
            rows[op.key] = Row(ms, 0.9 * ms, 1.1 * ms, p95_ms=(1.05 + 0.05 * (len(op.key) % 7)) * ms)
    return dataclasses.replace(
        table("tailed"), rows=rows, coefficients=None, provenance="measured", notes=("a note of tailed",)
    )


def run_of_two_devices(out: Path | None = None, **options: Any) -> SearchResult:
    """A search for two boards that also minimises parameters, within a limit of memory."""
    settings: dict[str, Any] = {
        "device": [table(), other_board()],
        "budget_ms": [0.9, 1.7],
        "accuracy": less_sure_when_large,
        "objectives": ["params"],
        "limits": {"memory": 1_000_000},
        "trials": 60,
        "sampler": "random",
    }
    return search(small_space(), out=out, **settings | options)


def run_of_one(out: Path | None = None, **options: Any) -> SearchResult:
    """A search for the toy board."""
    settings: dict[str, Any] = {
        "device": table(),
        "budget_ms": 0.9,
        "accuracy": by_size,
        "trials": 60,
        "sampler": "random",
    }
    return search(small_space(), out=out, **settings | options)


def verified(result: SearchResult, *, times: float, cpu_share: float = 1.0) -> list[str]:
    """Writes into a run that every second network of its front was measured, at so many times its
    prediction, which a corrected table knows; returns their ids. All but the first got `cpu_share`."""
    assert result.path is not None
    chosen = result.front[::2]
    Verification(
        most=30,
        candidates=len(result.trials),
        profile={"board": "Toy"},
        environment={},
        started="2026-11-21T12:00:00+00:00",
        finished="2026-11-21T12:01:00+00:00",
        measured=tuple(
            MeasuredCandidate(
                one.id,
                1,
                (times * one.latency.value,),
                1.1 * times * one.latency.value,
                cpu_share if place else 1.0,
                one.latency,
            )
            for place, one in enumerate(chosen)
        ),
        correction=Corrected("one factor", times, {}, 10.0, 1.0),
        corrected={one.id: Estimate(times * one.latency.value, unit="ms") for one in chosen},
        front=tuple(one.id for one in chosen),
    ).write(result.path)
    return [one.id for one in chosen]
