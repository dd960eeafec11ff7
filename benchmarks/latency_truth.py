"""Networks that no table was built from, and what they take here: drawn, timed twice, kept in a file.

Every network is timed on two occasions, each of several rounds. The rounds of the two take turns; each
is cut into pieces, and every piece is a fresh process that is written down when it is done. So a run
that was interrupted goes on, and the two occasions differ by nothing but chance: the noise floor.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import random
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwnas.board.timing import median
from hwnas.errors import FileFormatError, UsageError
from hwnas.io.atomic import write_whole
from hwnas.measure.networks import MeasuredNetwork
from hwnas.measure.plan import REFERENCE_NETWORK, of_any_size
from hwnas.predictors.latency import DeviceProfile, LatencyTable
from hwnas.predictors.latency.pace import Pace, fit_pace, fit_sharing
from hwnas.predictors.latency.runtime_versions import check_configuration
from hwnas.space import ArchSpec, SearchSpace, preset, preset_names

FORMAT = "hwnas latency truth"
SCHEMA = 1
OCCASIONS = (0, 1)
"""The first is the truth, the second tells how well the truth is known."""
RANDOM, MACRO, OTHER = "random", "preset", "other preset"
"""Groups of networks: drawn, presets of the default space, presets beyond it."""
DRAWS = 2000
"""So many draws of a build's random stream hold every network that it may have measured."""


@dataclass(frozen=True, slots=True)
class Network:
    """One network to be timed."""

    label: str
    group: str
    arch: ArchSpec


@dataclass(frozen=True, slots=True)
class Measured:
    """One network on one occasion."""

    ms: float
    """The median of the rounds, at the machine's middle speed on this occasion."""
    clock_ms: float
    """The median of the rounds by the clock alone."""


@dataclass
class Truth:
    """What was asked, and the pieces that were timed so far."""

    table: str
    profile: DeviceProfile
    networks: tuple[Network, ...]
    seed: int
    rounds: int
    piece: int
    """Networks that one process times."""
    pieces: list[dict[str, Any]] = field(default_factory=list)
    """occasion, round, number, and by label clock_ms, beside_ms (reference network), p95_ms and cpu_share."""
    environment: Mapping[str, Any] = field(default_factory=dict)

    def planned(self) -> list[tuple[int, int, int, list[str]]]:
        """Every piece: occasion, round, number and its networks, in the order they are timed."""
        result = []
        for number in range(self.rounds):
            for occasion in OCCASIONS:
                labels = [network.label for network in self.networks]
                random.Random(f"{self.seed}/{occasion}/{number}").shuffle(labels)
                cut = range(0, len(labels), self.piece)
                result += [
                    (occasion, number, index, labels[start : start + self.piece])
                    for index, start in enumerate(cut)
                ]
        return result

    def missing(self) -> list[tuple[int, int, int, list[str]]]:
        """The planned pieces that have not been timed."""
        done = {(piece["occasion"], piece["round"], piece["number"]) for piece in self.pieces}
        return [planned for planned in self.planned() if planned[:3] not in done]

    def measured(self, occasion: int | None, *, pace: Pace | None = None) -> dict[str, Measured]:
        """Each network that was timed on the occasion (None: on either), by label.

        As `measure_networks` tells it.

        With `pace` at that speed of the machine, not at the middle one of the occasion.
        """
        timings: dict[str, list[tuple[float, float]]] = {network.label: [] for network in self.networks}
        for piece in self.pieces:
            if occasion in (None, piece["occasion"]):
                for label, timing in piece["timings"].items():
                    timings[label].append((timing["clock_ms"], timing["beside_ms"]))
        timings = {label: rounds for label, rounds in timings.items() if rounds}
        if not timings:
            return {}
        if pace is None:
            pace = fit_pace(timings.values())
        sharing = fit_sharing(timings.values())
        result = {}
        for label, rounds in timings.items():
            rounds_ms = sharing.at_middle_speed(rounds, pace)
            result[label] = Measured(median(rounds_ms), median([clock_ms for clock_ms, _ in rounds]))
        return result

    def document(self) -> dict[str, Any]:
        """Plain data for the file."""
        networks = [
            {"label": network.label, "group": network.group, "arch": network.arch.to_dict()}
            for network in self.networks
        ]
        return {
            "format": FORMAT,
            "schema": SCHEMA,
            "table": self.table,
            "profile": self.profile.settings(),
            "seed": self.seed,
            "rounds": self.rounds,
            "piece": self.piece,
            "environment": dict(self.environment),
            "networks": networks,
            "pieces": self.pieces,
        }

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(self.document(), separators=(",", ":")) + "\n")

    @classmethod
    def load(cls, path: Path) -> Truth:
        """Raises UsageError when there is no such file, FileFormatError when it holds something else."""
        try:
            data = json.loads(path.read_text())
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
        except ValueError:
            data = None
        if not isinstance(data, dict) or (data.get("format"), data.get("schema")) != (FORMAT, SCHEMA):
            raise FileFormatError(f"{path}: not a file of measured networks (schema {SCHEMA})")
        return cls(
            table=data["table"],
            profile=DeviceProfile(**data["profile"]),
            networks=tuple(
                Network(item["label"], item["group"], ArchSpec.from_dict(item["arch"]))
                for item in data["networks"]
            ),
            seed=data["seed"],
            rounds=data["rounds"],
            piece=data["piece"],
            pieces=data["pieces"],
            environment=data["environment"],
        )


def build_draws(table: LatencyTable, space: SearchSpace) -> dict[str, ArchSpec]:
    """Every network that the table's build may have measured, by its label `random-<id>`.

    The plan draws all of its networks from one random stream, this one, whatever their number.
    """
    rng = random.Random(f"{table.measurement.get('seed', 0)}/networks")
    archs = (of_any_size(space, rng) for _ in range(DRAWS))
    return {f"random-{arch.id}": arch for arch in archs}


def building_networks(table: LatencyTable, drawn: Mapping[str, ArchSpec]) -> list[tuple[ArchSpec, float]]:
    """Those of the draws that the table keeps the measured milliseconds of.

    Raises UsageError when the table keeps those of a random network that is not among the draws.
    """
    kept = [item for item in table.heldout.networks if item.label.startswith("random-")]
    lost = [item.label for item in kept if item.label not in drawn]
    if lost:
        raise UsageError(
            f"the table '{table.name}' must be built from networks that its seed draws, but {len(lost)} are "
            f"not: {', '.join(lost[:3])}. Build the table anew with this hwnas"
        )
    return [(drawn[item.label], item.measured_ms) for item in kept]


def unseen_networks(table: LatencyTable, count: int, *, seed: int, space: SearchSpace) -> list[Network]:
    """`count` random networks that the table's build cannot have measured, and all presets."""
    drawn = build_draws(table, space)
    building_networks(table, drawn)  # or what is left out below is not what the build drew
    known = {arch.id for arch in drawn.values()}
    known |= {preset(name).id for name in preset_names()}
    rng = random.Random(f"{seed}/unseen networks")
    networks: list[Network] = []
    while len(networks) < count:
        arch = of_any_size(space, rng)
        if arch.id not in known:
            known.add(arch.id)
            networks.append(Network(f"random-{arch.id}", RANDOM, arch))
    for name in preset_names():
        arch = preset(name)
        networks.append(Network(name, MACRO if space.contains(arch) else OTHER, arch))
    return networks


def profile_here(table: LatencyTable) -> tuple[DeviceProfile, dict[str, Any]]:
    """The table's configuration as this machine has it, and the environment.

    Raises UsageError when the board is another one, or the runtime has a version that the table does not
    hold for.
    """
    from hwnas.measure.build import measured_profile
    from hwnas.measure.remote.link import LocalLink

    wanted = table.profile
    profile, environment = measured_profile(
        lambda: LocalLink(wanted.runtime),
        runtime=wanted.runtime,
        threads=wanted.threads,
        batch=wanted.batch,
        precision=wanted.precision,
    )
    # Not the runtime's default: one that is not there is refused when the first network is loaded.
    profile = dataclasses.replace(profile, provider=wanted.provider)
    wanted.check(table=table.name, board=profile.board)
    check_configuration(table, profile)
    return profile, environment


def measure_truth(truth: Truth, path: Path, *, report: Callable[[str], None]) -> None:
    """Times what is missing; every piece is in the file as soon as it is done."""
    missing = truth.missing()
    if not missing:
        return
    wanted = {label for *_, labels in missing for label in labels}
    archs = {network.label: network.arch for network in truth.networks if network.label in wanted}
    with Models(archs, truth.profile, report=report) as models:
        for done, (occasion, number, index, labels) in enumerate(missing, start=1):
            measured = models.measure(labels, seed=f"{truth.seed}/{occasion}/{number}/{index}")
            truth.pieces.append(
                {
                    "occasion": occasion,
                    "round": number,
                    "number": index,
                    "timings": {label: _timing(item) for label, item in measured.items()},
                }
            )
            truth.save(path)
            report(f"timed {done} of {len(missing)} pieces of {truth.table}")


class Models:
    """Networks exported for one profile, before any is timed: exporting would disturb timing."""

    def __init__(
        self, archs: Mapping[str, ArchSpec], profile: DeviceProfile, *, report: Callable[[str], None]
    ) -> None:
        import os

        from hwnas.export.timing import exporter, one_thread

        self._profile = profile
        self._folder = tempfile.TemporaryDirectory()
        self._files: dict[str, Path] = {}
        report(f"exporting {len(archs)} networks")
        to_model = exporter(profile.runtime, profile.precision)
        with one_thread():
            self._reference = to_model.network_model(preset(REFERENCE_NETWORK), batch=1)
            for number, (label, arch) in enumerate(archs.items()):
                self._files[label] = Path(self._folder.name) / str(number)
                self._files[label].write_bytes(to_model.network_model(arch, batch=profile.batch))
        os.sync()  # or the disk is still busy when timing begins

    def measure(
        self, labels: Iterable[str] | None = None, *, seed: str, rounds: int = 1
    ) -> dict[str, MeasuredNetwork]:
        """These networks (all by default), in a fresh process a round, in random order."""
        from hwnas.measure.networks import measure_networks
        from hwnas.measure.remote.link import LocalLink

        chosen = self._files if labels is None else {label: self._files[label] for label in labels}
        return measure_networks(
            {label: functools.partial(Path.read_bytes, file) for label, file in chosen.items()},
            reference=self._reference,
            profile=self._profile,
            start=lambda: LocalLink(self._profile.runtime),
            rng=random.Random(seed),
            rounds=rounds,
        )

    def __enter__(self) -> Models:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def in_group(truth: Truth, groups: Sequence[str]) -> list[Network]:
    """The networks of these groups that were timed on both occasions."""
    timed = truth.measured(0).keys() & truth.measured(1).keys()
    return [network for network in truth.networks if network.group in groups and network.label in timed]


def _timing(network: MeasuredNetwork) -> dict[str, float]:
    return {
        "clock_ms": network.clock_ms[0],
        "beside_ms": network.beside_ms[0],
        "p95_ms": network.p95_ms,
        "cpu_share": network.cpu_share,
    }
