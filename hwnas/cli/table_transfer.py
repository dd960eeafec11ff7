"""`hwnas table transfer`: a board's latency table from a few networks measured on it and known tables."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas.cli.common import HostOption, stderr, stdout
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
from hwnas.errors import HwnasError, UsageError

if TYPE_CHECKING:
    from hwnas.predictors.latency import DeviceProfile, LatencyTable

__all__ = ["command"]


def command(
    name: Annotated[str, typer.Option(help="Name of the new device, e.g. my-pi.")],
    samples: Annotated[int, typer.Option(min=5, max=200, help="Number of networks to measure.")] = 20,
    known: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="DEVICE",
            help="Known device to learn from. Repeatable. Default: all with this batch size.",
        ),
    ] = None,
    runtime: RuntimeOption = "onnxruntime",
    threads: ThreadsOption = 1,
    batch: BatchOption = 1,
    precision: PrecisionOption = "fp32",
    provider: ProviderOption = None,
    host: HostOption = "local",
    measurements: Annotated[
        Path | None,
        typer.Option(
            "--measurements",
            metavar="FILE.csv",
            help="Measure nothing; read networks and milliseconds from this file (columns network, ms).",
        ),
    ] = None,
    board: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Name of the board, with --measurements.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Publication of the milliseconds, with --measurements; the table is then called estimated.",
        ),
    ] = None,
    passes: Annotated[
        int, typer.Option(min=1, help="Number of fresh processes; each times every network.")
    ] = 3,
    seed: Annotated[int, typer.Option(help="Random seed of networks and orders.")] = 0,
    space: SpaceOption = "default",
    out: OutOption = Path("latency_tables"),
    resume: Annotated[bool, typer.Option("--resume", help="Continue a transfer that was stopped.")] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Make a latency table from a few networks measured on a board and the tables of known devices.

    The most informative networks are measured; the rest is predicted. The table is called transferred and
    works like any other. With --measurements nothing is measured: the file has the columns network and ms.
    A row may also be any graph, with its features and its milliseconds on a known device.
    """
    from hwnas.predictors.latency.locate import check_name

    check_name(name)
    if (out / f"{name}.yaml").exists():
        raise UsageError(
            f"--name must not be that of a table in {out}, but {out / name}.yaml is there. Choose another "
            "name, or remove it"
        )
    from hwnas import plugins

    plugins.require("pandas", extra="transfer")
    if measurements is not None:
        if board is None:
            raise UsageError("--measurements needs --board, the board in words, such as 'Raspberry Pi 4B'")
        from hwnas.predictors.latency import DeviceProfile

        check_writable(out)
        profile = DeviceProfile(
            board=board,
            runtime=runtime,
            threads=threads,
            batch=batch,
            precision=precision,
            provider=provider or "cpu",
        )
        table = _from_file(
            measurements, known, name=name, profile=profile, space=space, seed=seed, source=source
        )
        table.save(out / f"{name}.yaml")
        stdout().print(f"{out / name}.yaml: {summary(table)}", soft_wrap=True)
        stdout().print(f"Next: hwnas search --device {name} --budget 10ms")
        return
    for flag, value in (("--board", board), ("--source", source)):
        if value is not None:
            raise UsageError(f"{flag} describes a file of measurements: give --measurements with it")
    from hwnas.measure.transfer_build import build_transferred
    from hwnas.measure.transfer_candidates import draw_candidates, plan_samples
    from hwnas.space import SearchSpace

    search_space = SearchSpace.from_yaml(space)
    tables = _known_tables(known, batch=batch)
    candidates = draw_candidates(search_space, tables, seed=seed)
    plan = plan_samples(candidates, samples, passes=passes, seed=seed)
    stderr().print(
        f"{len(plan.networks)} whole networks, {plan.passes} passes: {plan.cells} cells, about "
        f"{duration(plan.seconds)}; known: {', '.join(table.name for table in tables)}",
        highlight=False,
        soft_wrap=True,
    )
    if dry_run:
        return
    check_writable(out)

    def measure(file: Path, progress: Progress) -> LatencyTable:
        from hwnas.measure.networks import exporter_for
        from hwnas.measure.remote.hosts import LOCAL, start_link

        exporter = exporter_for(runtime, precision)
        from hwnas.export.timing import one_thread

        with one_thread():
            return build_transferred(
                plan,
                candidates,
                space=search_space,
                name=name,
                runtime=runtime,
                threads=threads,
                batch=batch,
                precision=precision,
                provider=provider,
                exporter=exporter,
                start=start_link(host, runtime, say=lambda text: stderr().print(text, highlight=False)),
                samples=file,
                created=datetime.date.today().isoformat(),
                resume=resume,
                elsewhere=host != LOCAL,
                progress=progress,
            )

    build_and_save(name, out, measure)


def _from_file(
    file: Path,
    known: list[str] | None,
    *,
    name: str,
    profile: DeviceProfile,
    space: str,
    seed: int,
    source: str | None,
) -> LatencyTable:
    """The table of a board whose milliseconds are in a file."""
    from hwnas.measure.transfer_build import transfer_table
    from hwnas.measure.transfer_candidates import draw_candidates
    from hwnas.measure.transfer_measurements import read_measurements, with_measurements
    from hwnas.named import resolve_arch
    from hwnas.space import SearchSpace

    measured = read_measurements(file, resolve_arch)
    if measured.has_graphs and known and not set(known) <= set(measured.known):
        raise UsageError(
            f"{file} has graphs, which no table predicts: --from may name its columns only "
            f"({', '.join(measured.known)}), got {', '.join(known)}"
        )
    names = list(measured.known) if measured.has_graphs and not known else known
    search_space = SearchSpace.from_yaml(space)
    tables = _known_tables(names, batch=profile.batch)
    drawn = draw_candidates(search_space, tables, seed=seed)
    candidates, told, milliseconds = with_measurements(drawn, measured, tables)
    return transfer_table(
        candidates,
        measured.ms,
        name=name,
        profile=profile,
        space=search_space,
        created=datetime.date.today().isoformat(),
        measurement={"seed": seed, **({"source": source} if source else {})},
        frames=(told, milliseconds),
        source=source,
    )


def _known_tables(names: list[str] | None, *, batch: int) -> list[LatencyTable]:
    """The tables named, or all at hand of this batch; those from a transfer only where they are named."""
    from hwnas.predictors.latency import LatencyTable, device_names

    if names:
        return [LatencyTable.load(name) for name in dict.fromkeys(names)]
    tables = []
    for name in device_names():
        try:
            table = LatencyTable.load(name)
        except HwnasError as error:
            stderr().print(f"warning: left out: {error}", soft_wrap=True)
            continue
        if table.provenance != "transferred" and table.profile.batch == batch:
            tables.append(table)
    return tables
