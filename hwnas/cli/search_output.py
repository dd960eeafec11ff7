"""What `hwnas search` prints: the front as a table, how verifying went, what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hwnas.cli.common import say, stdout

if TYPE_CHECKING:
    from hwnas.estimate import Estimate
    from hwnas.predictors.latency import DeviceProfile
    from hwnas.search import Candidate, SearchResult

__all__ = ["note_unchecked", "show"]

ROWS_SHOWN = 20


def note_unchecked(result: SearchResult) -> None:
    """Says of a run of before there were checksums that damage in it may go unseen."""
    if not result.checked:
        say(
            f"note: {result.path} was written by an earlier hwnas: its lines have no checksums, so damage in "
            "them may go unseen"
        )


def show(result: SearchResult) -> None:
    """The front on stdout, in at most `ROWS_SHOWN` rows."""
    from rich.table import Table

    from hwnas.report.dimensions import accuracy_noun, spread_over, within
    from hwnas.report.model import front_remarks, tables_of

    config, front, path = result.config, result.front, result.path
    assert path is not None
    verified = result.is_verified
    also = tuple(front[0].also) if front else ()
    tables = tables_of(result)
    first = tables.get(config.devices[0])
    batched = None if first is None or first.profile.batch == 1 else first.profile
    predicted = (
        f"predicted ms ({config.provenance} table)" if verified else f"latency ms, {config.provenance}"
    )
    table = Table(
        title=f"{len(front)} networks within {within(config)}, "
        f"best of {result.evaluated + result.given} "
        f"(latency {'measured now' if verified else config.provenance}, "
        f"{accuracy_noun(config)} estimated by '{config.accuracy}')",
        title_justify="left",
    )
    for header, justify in (
        ("#", "right"),
        ("id", "left"),
        *([("configuration", "left")] if config.configurations else []),
        *([("measured ms", "right")] if verified else []),
        (predicted, "right"),
        *([(f"images/s, runs of {batched.batch}", "right")] if batched else []),
        *((_titled(name), "right") for name in also),
        (f"accuracy {config.accuracy_unit}, estimated", "right"),
        ("attention", "left"),
        ("params M", "right"),
        ("MACs M", "right"),
    ):
        table.add_column(header, justify=justify, no_wrap=header != "attention")  # type: ignore[arg-type]
    shown = spread_over(len(front), ROWS_SHOWN)
    for index in shown:
        table.add_row(str(index + 1), *_cells(front[index], verified=verified, also=also, batched=batched))
    console = stdout()
    console.print(table)
    quoted = shlex.quote(f"{path}#1")
    lines = []
    if len(shown) < len(front):
        lines.append(
            f"Shown: {len(shown)} of {len(front)}; all are in {path / 'front.json'} and in the report."
        )
    lines += [
        f"The table '{device}': {sentence}" for device, held in tables.items() for sentence in held.caveats
    ]
    lines += (front_remarks(result) if front else []) + _search_lines(result) + _verification_lines(result)
    device = config.devices[0]
    if config.configurations and front:
        device = front[0].configuration
        lines.append(f"#1 runs in {config.configuration(device)}.")
    lines += [
        f"Report: {path / 'report.html'}",
        "Next:",
        f"  hwnas describe {quoted} --device {shlex.quote(device)}",
        f"  hwnas export {quoted} --out model.onnx",
        f"  hwnas train {quoted} --data FOLDER",
    ]
    console.print("\n".join(lines), soft_wrap=True, markup=False)


def _search_lines(result: SearchResult) -> list[str]:
    """Why a search in arrays ended, and what came from another run."""
    lines = [
        f"Accuracy of '{one.device}' is lowered by {one.penalty:g} for {one.precision}: {one.penalty_source}."
        for one in result.config.configurations
        if one.penalty
    ]
    if result.given:
        lines.append(f"{result.given} candidates come from {result.source}: not evaluated again.")
    if result.epochs:
        from hwnas.search.evolution import GROWTH, PATIENCE

        last = result.epochs[-1]
        if last.exact:
            lines.append(
                f"Exact: the space has {result.space.size} networks, and all {last.evaluated} within the "
                f"limits were evaluated. By this table and '{result.config.accuracy}' none is better than "
                "the front."
            )
        if last.converged and len(result.epochs) > PATIENCE:
            recent = last.evaluated - result.epochs[-1 - PATIENCE].evaluated
            lines.append(
                f"Converged: the last {recent} of {last.evaluated} networks added less than "
                f"{100 * GROWTH:g} % to the hypervolume of the front."
            )
    return lines


def _verification_lines(result: SearchResult) -> list[str]:
    """How verifying went, in a few sentences; nothing for a run without."""
    known = result.verification
    if known is None:
        return []
    assert result.path is not None
    from hwnas.search import resume_command

    again = f"{resume_command(result.path, result.config.accuracy)} --verify"
    if not known.is_complete:
        return [f"Verification: {len(known.measured)} networks measured, not finished. Continue: {again}"]
    if not result.is_verified:
        new = len(result.trials) - known.candidates
        return [f"The verification is of the run before its last {new} candidates. Verify again: {again}"]
    from hwnas.search.output import verification_text

    lines = [verification_text(result)]
    if known.mismatch:
        lines.append("It was allowed to measure in another configuration than the table's.")
    from hwnas.search.verify import CALM, CORRECTED_TABLE

    correction = known.correction
    if correction is not None and correction.method != "none":
        corrected = shlex.quote(str(result.path / CORRECTED_TABLE))
        lines.append(
            "To search with the corrected table: "
            f"hwnas search --device {corrected} --budget {result.config.targets[0].budget_ms:g}ms"
        )
    if min(one.cpu_share for one in known.measured) < CALM:
        lines.append("Other programs took the CPU while measuring: some of these times are too long.")
    return lines


def _titled(name: str) -> str:
    """A column's title for a quantity of `Trial.also`."""
    return {"memory": "memory MB", "energy": "energy mJ"}.get(name, f"{name} ms")


def _cells(
    candidate: Candidate,
    *,
    verified: bool,
    also: Sequence[str] = (),
    batched: DeviceProfile | None = None,
) -> Sequence[str]:
    accuracy = candidate.accuracy
    measured = [_latency(candidate.measured)] if verified and candidate.measured is not None else []
    return (
        candidate.id,
        *([candidate.configuration] if candidate.configuration else []),
        *measured,
        _latency(candidate.latency),
        *([f"{batched.images_per_s(candidate.latency.value):,.0f}"] if batched else []),
        *(
            f"{candidate.also[name].value / 1e6:.2f}" if name == "memory" else _latency(candidate.also[name])
            for name in also
        ),
        f"{accuracy.value:#.4g}" + (f" ± {accuracy.std:.2g}" if accuracy.std else ""),
        ", ".join(candidate.attentions) or "none",
        f"{candidate.params / 1e6:.2f}",
        f"{candidate.macs / 1e6:.0f}",
    )


def _latency(latency: Estimate) -> str:
    interval = (
        "" if latency.low is None or latency.high is None else f" ({latency.low:.4g} to {latency.high:.4g})"
    )
    return f"{latency.value:#.4g}{interval}"
