"""`hwnas table recheck`: does a table hold for the runtime's installed version? Ten networks tell."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwnas.cli.common import HostOption, JsonOption, emit_json, end_with, say, stdout, write_err
from hwnas.cli.table_building import check_writable
from hwnas.errors import UnstableError, UsageError

if TYPE_CHECKING:
    from hwnas.predictors.latency import DeviceProfile, LatencyTable

__all__ = ["command", "folder_of", "profile_there", "progress"]


def command(
    device: Annotated[
        str,
        typer.Argument(
            metavar="DEVICE", help="Device, e.g. rpi4 ('hwnas devices' lists them), or a table file."
        ),
    ],
    host: HostOption = "local",
    networks: Annotated[int, typer.Option(min=4, help="Number of networks to measure.")] = 10,
    rounds: Annotated[
        int, typer.Option(min=2, help="Number of fresh processes; each times all networks.")
    ] = 3,
    seed: Annotated[int, typer.Option(help="Random seed of networks and orders.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the outcome. Default: the table's own, or latency_tables for a table that ships."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check in about a minute whether a table still holds for the installed runtime version.

    Measures a few networks and compares them with the table's predictions. Accepts the version (in
    NAME.checks.json), or writes the table multiplied by one factor, or refuses with exit code 5.
    """
    from hwnas.measure import recheck
    from hwnas.measure.networks import measure_archs
    from hwnas.measure.remote.hosts import start_link
    from hwnas.predictors.latency import LatencyTable, find_table

    path = find_table(device)
    table = LatencyTable.load(path)
    if table.provenance == "estimated":
        raise UsageError(
            f"the table '{table.name}' is estimated from published figures, not measured with a version of a "
            "runtime. Measure the board: hwnas table build --name NAME"
        )
    start = start_link(host, table.profile.runtime, say=say)
    profile = profile_there(table, start)
    folder = folder_of(path) if out is None else out
    check_writable(folder)
    archs = recheck.networks_of(table, networks, seed=seed)
    measured = measure_archs(
        archs, profile, rounds=rounds, seed=seed, start=start, report=progress("measuring")
    )
    outcome = recheck.judge(table, archs, measured)
    date = datetime.date.today().isoformat()
    written: Path | None = None
    if outcome.verdict == recheck.ACCEPTED:
        written = _accept(table, profile, outcome, date, folder)
    elif outcome.verdict == recheck.CORRECTED:
        name = table.name
        if (folder / f"{name}.yaml").exists():
            name = f"{name}-{profile.runtime_version.partition('+')[0]}"
        written = folder / f"{name}.yaml"
        recheck.corrected_table(
            table, outcome, archs, measured, name=name, profile=profile, created=date
        ).save(written)
    document = _document(table, profile, outcome, written)
    if as_json:
        emit_json(document)
    else:
        _show(document, str(outcome))
    if outcome.verdict == recheck.REFUSED:
        from hwnas.predictors.latency.runtime_versions import pin_command

        refusal = UnstableError(
            f"the table '{table.name}' does not hold for {profile.runtime} {profile.runtime_version}: "
            f"{outcome}; one "
            f"factor leaves {outcome.corrected_mape_percent:.1f} %. Build it again (hwnas table build --name "
            f"{table.name}), or run '{pin_command(table.profile)}'. On a busy machine, check again when "
            "it is quiet"
        )
        end_with(refusal)


def profile_there(table: LatencyTable, start: Any) -> DeviceProfile:
    """What would be measured; raises UsageError where that differs by more than the runtime's version."""

    from hwnas.measure.build import measured_profile

    known = table.profile
    profile, _ = measured_profile(
        start,
        runtime=known.runtime,
        threads=known.threads,
        batch=known.batch,
        precision=known.precision,
        provider=known.provider,
    )
    wanted = profile.settings() | {"runtime_version": None}
    differences = known.differences(**wanted)
    if differences:
        raise UsageError(
            f"the table '{table.name}' is of another configuration: {'; '.join(differences)}. Recheck it "
            "on its own board (--host)"
        )
    return profile


def folder_of(path: Path) -> Path:
    """Beside a user's table; ./latency_tables for one that ships."""
    from hwnas.plugins import PACKAGE

    shipped = {PACKAGE / "latency_tables", PACKAGE.parent / "latency_tables"}
    return Path("latency_tables") if path.resolve().parent in shipped else path.parent


def _accept(table: LatencyTable, profile: DeviceProfile, outcome: Any, date: str, folder: Path) -> Path:
    from hwnas.predictors.latency.runtime_versions import VersionCheck, record_check

    check = VersionCheck(profile.runtime_version, outcome.networks, outcome.mape_percent, date)
    return record_check(table, check, folder)


def _document(
    table: LatencyTable, profile: DeviceProfile, outcome: Any, written: Path | None
) -> dict[str, Any]:
    import dataclasses

    return {
        "schema": 1,
        "device": table.name,
        "runtime": profile.runtime,
        "measured_with": table.profile.runtime_version,
        "checked_version": profile.runtime_version,
        **dataclasses.asdict(outcome),
        "written": None if written is None else str(written),
    }


def _show(document: dict[str, Any], told: str) -> None:
    console = stdout()
    console.print(
        f"{document['device']}: measured with {document['runtime']} {document['measured_with']}, checked "
        f"with {document['checked_version']}: {told}",
        soft_wrap=True,
    )
    if document["verdict"] == "accepted":
        console.print(f"Accepted; kept in {document['written']}", soft_wrap=True)
    elif document["verdict"] == "corrected":
        console.print(
            f"Corrected by the factor {document['factor']:.3f}: {document['corrected_mape_percent']:.1f} "
            f"% mean error then. The table for {document['checked_version']}: {document['written']}",
            soft_wrap=True,
        )
    else:
        console.print("Refused; nothing was written.")


def progress(what: str) -> Any:
    """A line that is written over on a terminal; nothing elsewhere."""

    def report(name: str, done: int, total: int) -> None:
        if sys.stderr.isatty():
            write_err("" if done == total else f"{what} {done} of {total}: {name}", anew=True)

    return report
