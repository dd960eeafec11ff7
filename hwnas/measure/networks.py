"""Whole networks measured here: in several fresh processes, in random order, beside a reference network."""

from __future__ import annotations

import dataclasses
import functools
import random
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas import plugins
from hwnas.board.timing import Rules, median
from hwnas.errors import HwnasError
from hwnas.foreign import require_main
from hwnas.measure.cells import REFERENCE_EVERY
from hwnas.measure.plan import REFERENCE_NETWORK
from hwnas.measure.remote.link import CellError, Link, LocalLink
from hwnas.predictors.latency.pace import fit_pace, fit_sharing
from hwnas.predictors.latency.profile import DeviceProfile
from hwnas.space import ArchSpec, preset

if TYPE_CHECKING:
    from hwnas.export.timing import Exporter

__all__ = [
    "NETWORK_RULES",
    "MeasuredNetwork",
    "exporter_for",
    "measure_archs",
    "measure_networks",
]

NETWORK_RULES = Rules(warmup_runs=6, warmup_s=0.05, warmup_limit_s=0.5, repeats=15, width=0.005, limit_s=0.4)


@dataclass(frozen=True, slots=True)
class MeasuredNetwork:
    """One network over all rounds."""

    rounds_ms: tuple[float, ...]
    """Each round, a process of its own, at the machine's middle speed meanwhile."""
    clock_ms: tuple[float, ...]
    """The median of each round by the clock alone, whatever the machine's speed was just then."""
    beside_ms: tuple[float, ...]
    """What the reference network took beside each round."""
    p95_ms: float
    """The median of the rounds' 95th percentiles, by the clock."""
    cpu_share: float
    """The least share of the CPU that a round got."""
    rounds_mj: tuple[float, ...] = ()
    """Energy of one run in each round, in millijoules; none where the board does not report it."""
    meter: str = ""
    """What reported it: `rapl`, `ina3221` or `tegrastats`."""

    @property
    def energy_mj(self) -> float | None:
        """The median of the rounds; None where it was not measured."""
        return median(self.rounds_mj) if self.rounds_mj else None

    @property
    def ms(self) -> float:
        """The median of the rounds, at the machine's middle speed meanwhile."""
        return median(self.rounds_ms)

    @property
    def raw_ms(self) -> float:
        """The median of the rounds by the clock."""
        return median(self.clock_ms)

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
    reference: bytes,
    profile: DeviceProfile,
    start: Callable[[], Link],
    rng: random.Random,
    rounds: int = 3,
    rules: Rules = NETWORK_RULES,
    report: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> dict[str, MeasuredNetwork]:
    """Times each model (made when its turn comes) once a round, in a new order each round.

    Every one is timed in turns with `reference`, a model of one image: what slows the machine down for
    a second shows in both (see speed.py). Raises HwnasError when a network does not run, BoardError
    when the agent is gone.
    """
    require_main("measuring")
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in models}
    done = 0
    for _ in range(rounds):
        names = list(models)
        rng.shuffle(names)
        link = start()
        try:
            for count, name in enumerate(names):
                try:
                    if count % REFERENCE_EVERY == 0:
                        link.reference(b"" if count else reference, profile=profile)
                    answer = link.measure(models[name](), rules=rules, profile=profile, beside=True)
                except CellError as error:
                    raise HwnasError(f"{name} does not run on {profile.runtime}: {error}") from None
                answers[name].append(answer)
                done += 1
                report(name, done, rounds * len(models))
        finally:
            link.close()
    passes = {
        name: [(answer["median_ms"], answer["reference_ms"]) for answer in own]
        for name, own in answers.items()
    }
    sharing, pace = fit_sharing(passes.values()), fit_pace(passes.values())
    return {
        name: MeasuredNetwork(
            rounds_ms=sharing.at_middle_speed(passes[name], pace),
            clock_ms=tuple(answer["median_ms"] for answer in own),
            beside_ms=tuple(answer["reference_ms"] for answer in own),
            p95_ms=median([answer["p95_ms"] for answer in own]),
            cpu_share=min(answer["cpu_share"] for answer in own),
            rounds_mj=tuple(answer["energy_mj"] for answer in own if answer.get("energy_mj")),
            meter=str(own[0].get("energy_meter", "")),
        )
        for name, own in answers.items()
    }


# --- architectures and model files on a device ------------------------------------------------


def exporter_for(runtime: str, precision: str) -> Exporter:
    """What makes the models that a runtime takes.

    Raises UsageError for an unknown runtime or a precision it has no models in, MissingPackageError
    where the exporter's packages are not there.
    """
    model_format = plugins.load("runtimes", runtime).MODEL_FORMAT
    for package in ("onnx", "torch") if model_format == "onnx" else ("torch",):
        plugins.require(package, extra="torch")
    from hwnas.export.timing import exporter

    return exporter(runtime, precision)


def measure_archs(
    networks: Mapping[str, ArchSpec | bytes],
    profile: DeviceProfile,
    *,
    rounds: int = 3,
    seed: int = 0,
    energy_s: float = 0.0,
    start: Callable[[], Link] | None = None,
    report: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> dict[str, MeasuredNetwork]:
    """Times each network in so many fresh processes; by the names given.

    An architecture is exported with random weights, in the runtime's deployment graph; bytes are a
    model as the runtime takes it (see `hwnas.export.timing`), of the profile's precision and batch.
    `energy_s`: seconds that each also runs for its energy, on boards that report it.
    `report` is told (name, timings done, of how many); what it raises ends the measuring.

    Raises MissingPackageError where the exporter's packages are not there, UsageError for a precision
    that the runtime's format does not have, HwnasError when a network does not run, BoardError when the
    measuring process is gone.
    """
    to_model = exporter_for(profile.runtime, profile.precision)
    from hwnas.export.timing import one_thread

    # Exported before anything is timed: exporting would disturb it.
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        files = {}
        for number, (name, network) in enumerate(networks.items()):
            files[name] = Path(folder) / f"{number}.model"
            files[name].write_bytes(
                network
                if isinstance(network, bytes)
                else to_model.network_model(network, batch=profile.batch)
            )
        return measure_networks(
            {name: functools.partial(Path.read_bytes, file) for name, file in files.items()},
            reference=to_model.network_model(preset(REFERENCE_NETWORK), batch=1),
            profile=profile,
            start=start or (lambda: LocalLink(profile.runtime)),
            rng=random.Random(seed),
            rounds=rounds,
            rules=dataclasses.replace(NETWORK_RULES, energy_s=energy_s),
            report=report,
        )
