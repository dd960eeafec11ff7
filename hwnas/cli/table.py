"""`hwnas table`: build a latency table by measuring, or by transfer; check one, show its rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwnas.cli.common import HostOption, JsonOption, emit_json, stderr, stdout
from hwnas.cli.table_building import (
    BatchOption,
    DryRunOption,
    OutOption,
    PrecisionOption,
    Progress,
    ProviderOption,
    RuntimeOption,
    SpaceOption,
    ThreadsOption,
    build_and_save,
    check_writable,
    duration,
    summary,
)
from hwnas.cli.table_energy import command as energy
from hwnas.cli.table_recheck import command as recheck
from hwnas.cli.table_transfer import command as transfer
from hwnas.errors import FileFormatError, UsageError, did_you_mean

if TYPE_CHECKING:
    from hwnas.measure.plan import Plan
    from hwnas.predictors.latency import LatencyTable

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="Build, transfer, recheck, check and show latency tables; add energy to one."
)
app.command("transfer")(transfer)
app.command("recheck")(recheck)
app.command("energy")(energy)

DeviceArgument = Annotated[
    str,
    typer.Argument(metavar="DEVICE", help="Device, e.g. rpi4 ('hwnas devices' lists them), or a table file."),
]


@app.command()
def build(
    name: Annotated[str, typer.Option(help="Name of the new device, e.g. my-pi.")],
    runtime: RuntimeOption = "onnxruntime",
    threads: ThreadsOption = 1,
    batch: BatchOption = 1,
    precision: PrecisionOption = "fp32",
    provider: ProviderOption = None,
    host: HostOption = "local",
    minutes: Annotated[
        float,
        typer.Option(
            min=0.1, help="Time budget in minutes, including export; a cost model fills in ops beyond it."
        ),
    ] = 10.0,
    ops: Annotated[
        str,
        typer.Option(
            metavar="fitting|all|presets",
            help="Ops to measure: as many as --minutes allow (fitting), all, or those of the presets.",
        ),
    ] = "fitting",
    networks: Annotated[
        int, typer.Option(min=4, help="Networks used for calibration and for the held-out error.")
    ] = 90,
    passes: Annotated[
        int,
        typer.Option(
            min=1, help="Number of fresh processes; each times every network, every second one every op."
        ),
    ] = 6,
    seed: Annotated[int, typer.Option(help="Random seed of networks and orders.")] = 0,
    space: SpaceOption = "default",
    arch: Annotated[
        list[str] | None, typer.Option(metavar="ARCH", help="Also measure this network's ops. Repeatable.")
    ] = None,
    out: OutOption = Path("latency_tables"),
    resume: Annotated[bool, typer.Option("--resume", help="Continue a build that was stopped.")] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Measure a latency table of this machine or of a board.

    Ops and whole networks are timed in several processes. The networks calibrate the table and give its
    held-out error.
    """
    from hwnas.api.tables import FURTHER, measure_table
    from hwnas.measure.plan import make_plan
    from hwnas.named import resolve_arch
    from hwnas.predictors.latency.locate import check_name
    from hwnas.space import SearchSpace

    if ops not in ("fitting", "all", "presets"):
        raise UsageError(f"--ops must be 'fitting', 'all' or 'presets', got '{ops}'")
    check_name(name)
    plan = make_plan(
        SearchSpace.from_yaml(space),
        networks=networks,
        passes=passes,
        minutes=minutes if ops == "fitting" else None,
        measure_all=ops != "presets",
        seed=seed,
        extra=[resolve_arch(text)[1] for text in arch or ()],
    )
    stderr().print(_plan_text(plan), highlight=False)
    if dry_run:
        return
    check_writable(out)
    budget_s = 60 * minutes if ops == "fitting" else FURTHER * plan.seconds

    def measure(samples: Path, progress: Progress) -> LatencyTable:
        def say(sentence: str) -> None:
            progress.end()
            stderr().print(sentence, highlight=False, soft_wrap=True)

        return measure_table(
            plan,
            name=name,
            runtime=runtime,
            threads=threads,
            batch=batch,
            precision=precision,
            provider=provider,
            host=host,
            samples=samples,
            resume=resume,
            budget_s=budget_s,
            progress=progress,
            say=say,
        )

    build_and_save(name, out, measure, budget_s=budget_s)


@app.command()
def check(
    device: DeviceArgument,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on disturbed or filled rows.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Validate a table and show its origin, noise and error."""
    from hwnas.predictors.latency import LatencyTable, find_table
    from hwnas.space import OpSpec

    path = find_table(device)
    table = LatencyTable.load(path)
    for key in table.rows:
        try:
            OpSpec.from_key(key)
        except FileFormatError as error:
            raise FileFormatError(f"{path}: rows.{key}: {error}") from None
    if strict and (table.disturbed or table.filled):
        first = ", ".join((table.disturbed + table.filled)[:5])
        raise FileFormatError(
            f"{path}: --strict refuses disturbed and filled rows; there are {len(table.disturbed)} "
            f"disturbed and {len(table.filled)} filled ones: {first} ..."
        )
    document = _facts(table, path)
    if as_json:
        emit_json(document)
        return
    console = stdout()
    console.print(f"{path}: valid. {summary(table)}")
    for title, value in document.items():
        if title not in ("schema", "notes", "caveats", "name", "path"):
            console.print(f"  {title}: {_shown(value)}")
    for sentence in table.caveats:
        console.print(f"  caveat: {sentence}", soft_wrap=True)
    for note in table.notes:
        console.print(f"  note: {note}")


@app.command()
def show(
    device: DeviceArgument,
    kind: Annotated[str | None, typer.Option(help="Show only rows of this op kind, e.g. reuse.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the rows of a table, or its coefficients."""
    from hwnas.predictors.latency import LatencyTable, find_table
    from hwnas.space.ops import KINDS

    path = find_table(device)
    table = LatencyTable.load(path)
    if kind is not None and kind not in KINDS:
        raise UsageError(f"no kind of op '{kind}'.{did_you_mean(kind, KINDS)} Known: {', '.join(KINDS)}")
    rows = {key: row for key, row in table.rows.items() if kind is None or key.partition("(")[0] == kind}
    document: dict[str, Any] = {
        "schema": 1,
        "name": table.name,
        "provenance": table.provenance,
        "caveats": list(table.caveats),
    }
    if table.coefficients is not None:
        document["coefficients_ms"] = dict(
            zip(table.coefficients.names, table.coefficients.values, strict=True)
        )
        document["offset_ms"] = table.coefficients.offset_ms
    else:
        document["rows"] = [
            {
                "key": key,
                "ms": row.ms,
                "low_ms": row.low_ms,
                "high_ms": row.high_ms,
                "p95_ms": row.p95_ms,
                "filled": row.filled,
                "disturbed": row.disturbed,
            }
            for key, row in rows.items()
        ]
    if as_json:
        emit_json(document)
        return
    console = stdout()
    for sentence in table.caveats:
        stderr().print(f"caveat: {sentence}", soft_wrap=True)
    if table.coefficients is not None:
        console.print(f"{table.name} ({table.provenance}): coefficients, no rows")
        for feature, value in document["coefficients_ms"].items():
            console.print(f"  {value:.4g} ms a unit of {feature}")
        return
    from rich.table import Table

    grid = Table("op", "ms", "low", "high", "p95", "", box=None)
    for key, row in rows.items():
        mark = "filled" if row.filled else "disturbed" if row.disturbed else ""
        p95 = "" if row.p95_ms is None else f"{row.p95_ms:.4f}"
        grid.add_row(key, f"{row.ms:.4f}", f"{row.low_ms:.4f}", f"{row.high_ms:.4f}", p95, mark)
    console.print(grid)


def _plan_text(plan: Plan) -> str:
    return (
        f"{len(plan.ops)} ops and {len(plan.networks)} whole networks, {plan.passes} passes "
        f"({plan.op_passes} of the ops): {plan.cells} cells, about {duration(plan.seconds)}; "
        f"{len(plan.filled)} ops are filled in"
    )


def _facts(table: LatencyTable, path: Path) -> dict[str, Any]:
    from hwnas.predictors.latency.runtime_versions import checked_versions

    evidence = table.heldout
    return {
        "schema": 1,
        "name": table.name,
        "path": str(path),
        "provenance": table.provenance,
        "board": table.profile.board,
        "runtime": table.profile.runtime,
        "runtime_version": table.profile.runtime_version,
        "threads": table.profile.threads,
        "batch": table.profile.batch,
        "precision": table.profile.precision,
        "inferred": dict(table.profile.inferred),
        "created": table.created,
        "rows_measured": len(table.rows) - len(table.filled),
        "rows_filled": len(table.filled),
        "rows_disturbed": len(table.disturbed),
        "heldout_method": evidence.method,
        "heldout_networks": len(evidence),
        "heldout_mape_percent": evidence.mape_percent,
        "heldout_median_percent": evidence.median_percent,
        "heldout_within_5_percent": evidence.within_percent(5),
        "heldout_within_10_percent": evidence.within_percent(10),
        "heldout_spearman": evidence.spearman,
        "interval_90_factor": evidence.factor(0.9),
        "runtime_versions_checked": [str(check) for check in checked_versions(table)],
        "measurement": dict(table.measurement),
        "caveats": list(table.caveats),
        "notes": list(table.notes),
    }


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(item)}" for name, item in value.items()) or "nothing"
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "none"
    return "unknown" if value is None else str(value)
