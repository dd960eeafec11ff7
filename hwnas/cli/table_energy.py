"""`hwnas table energy`: the energy of networks, measured on a board that reports it, into its table."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwnas.cli.common import HostOption, JsonOption, emit_json, say, stdout
from hwnas.cli.table_building import check_writable
from hwnas.cli.table_recheck import folder_of, profile_there, progress
from hwnas.errors import UsageError

if TYPE_CHECKING:
    from hwnas.predictors.latency.energy import EnergyModel

__all__ = ["command"]


def command(
    device: Annotated[
        str,
        typer.Argument(
            metavar="DEVICE", help="Device, e.g. my-pc ('hwnas devices' lists them), or a table file."
        ),
    ],
    host: HostOption = "local",
    networks: Annotated[int, typer.Option(min=10, help="Number of networks to measure.")] = 30,
    rounds: Annotated[
        int, typer.Option(min=1, help="Number of fresh processes; each measures all networks.")
    ] = 2,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Seconds that each network runs for its energy, each round.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Random seed of networks and orders.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the table. Default: the table's own, or latency_tables for a table that ships."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure networks' energy on a board and add an energy model to its table.

    Needs a board that reports energy: RAPL on x86 (readable by root only on most kernels), INA3221 sensors or
    tegrastats on a Jetson. Then 'hwnas search --minimise energy' works for the device.
    """
    from hwnas.measure.networks import measure_archs
    from hwnas.measure.recheck import networks_of
    from hwnas.measure.remote.hosts import start_link
    from hwnas.predictors.latency import LatencyTable, find_table
    from hwnas.predictors.latency.energy import fit_energy

    path = find_table(device)
    table = LatencyTable.load(path)
    if table.provenance == "estimated":
        raise UsageError(
            f"the table '{table.name}' is estimated from published figures, and an energy must be measured "
            "on the board. Measure a table there first: hwnas table build --name NAME"
        )
    start = start_link(host, table.profile.runtime, say=say)
    profile = profile_there(table, start)
    folder = folder_of(path) if out is None else out
    check_writable(folder)
    archs = networks_of(table, networks, seed=seed)
    measured = measure_archs(
        archs,
        profile,
        rounds=rounds,
        seed=seed,
        energy_s=seconds,
        start=start,
        report=progress("measuring"),
    )
    energies = {name: own.energy_mj for name, own in measured.items() if own.energy_mj is not None}
    if not energies:
        raise UsageError(
            f"'{profile.board}' does not report energy: no readable RAPL counter "
            "(/sys/class/powercap/intel-rapl:*/energy_uj, on most kernels for root only), INA3221 sensor or "
            "tegrastats"
        )
    model = fit_energy(archs, energies, meter=next(iter(measured.values())).meter)
    new = dataclasses.replace(table, measurement={**table.measurement, "energy": model.to_dict()})
    written = folder / f"{table.name}.yaml"
    new.save(written)
    if as_json:
        emit_json({"schema": 1, "device": table.name, "energy": model.to_dict(), "written": str(written)})
    else:
        _show(model, written)


def _show(model: EnergyModel, written: Path) -> None:
    from rich.table import Table

    grid: Any = Table("network", "measured mJ", "predicted without it, mJ", box=None)
    for one in model.heldout.networks:
        grid.add_row(one.label, f"{one.measured_ms:.2f}", f"{one.predicted_ms:.2f}")
    console = stdout()
    console.print(grid)
    console.print(
        f"{model.meter}: mean error {model.heldout.mape_percent:.1f} % with each network left out; the 90 % "
        f"interval is a factor of {model.heldout.factor():.2f}. Written: {written}",
        soft_wrap=True,
    )
