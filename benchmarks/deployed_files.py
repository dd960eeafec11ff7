"""The files that hwnas export writes, timed by the runtime alone, against the table's predictions.

    python benchmarks/deployed_files.py NAME [--networks 100] [--rounds 5] [--seed 0] [--reference-form]
        [--folder FOLDER] [--json FILE]

NAME is a latency table measured on this machine. Random networks of the default space that its build
cannot have used, and all presets, are exported as `hwnas export` exports them, with random weights, and
timed whole by benchmarks/plain_timing.py, which imports nothing of hwnas: fresh processes, in another
random order each round, each file in turns with one reference network. The error of `hwnas describe
--device NAME` is told by the clock, and at the table's pace: what the files would have taken had the
reference network been as fast as when the table was built. --reference-form also times each network in its
reference graph (onnxruntime and openvino).

Exported files and timings are kept in FOLDER: the same command goes on where it was stopped. Run it alone.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import latency_output as output
import numpy as np
from latency_scores import COLUMNS, Scores, cells, score
from latency_truth import MACRO, OTHER, RANDOM, Network, profile_here, unseen_networks

from hwnas.board.timing import median
from hwnas.errors import HwnasError, UsageError
from hwnas.io.jsonl import Kind, Log, read_log
from hwnas.measure.plan import REFERENCE_NETWORK
from hwnas.predictors.latency import DeviceProfile, LatencyTable
from hwnas.predictors.latency.pace import fit_sharing
from hwnas.space import ArchSpec, SearchSpace, preset

FORMATS = {"onnxruntime": "onnx", "openvino": "openvino", "ncnn": "ncnn", "torch": "exported-program"}
"""By runtime: what a network is exported to."""
DEPLOYED, REFERENCE = "deployed", "reference"
"""Forms that are timed."""
PIECE = 40
"""Files that one process times."""
CALIBRATION_BATCHES = 4

Timings = Mapping[str, Sequence[tuple[float, float]]]
"""By network: its milliseconds in each round, and the reference network's beside it."""


def write_file(arch: ArchSpec, path: Path, profile: DeviceProfile) -> Path:
    """The network as `hwnas export` writes it, with random weights; the file that names the model."""
    from hwnas.export import deploy
    from hwnas.export.timing import one_thread

    model_format = FORMATS[profile.runtime]
    file = path.with_suffix(deploy.FORMATS[model_format].suffix)
    if not file.exists():
        with one_thread():
            model = deploy.prepare(
                _random_network(arch),
                model_format=model_format,
                batch=profile.batch,
                calibration=_calibration(arch, profile) if profile.precision == "int8" else None,
            )
            # Also torch's checks leave it: a file that does not compute what torch does is not written.
            path.with_suffix(".shape.json").write_text(json.dumps([3, arch.resolution, arch.resolution]))
            deploy.write(model, file)
    return file


def write_reference_form(arch: ArchSpec, path: Path, profile: DeviceProfile) -> Path:
    """The network in its reference graph, as ONNX."""
    from hwnas.export.onnx_graph import reference_graph
    from hwnas.export.timing import one_thread

    file = path.with_suffix(".onnx")
    if not file.exists():
        with one_thread():
            file.write_bytes(reference_graph(_random_network(arch), batch=profile.batch))
    return file


def _random_network(arch: ArchSpec) -> Any:
    from hwnas.export.timing.random_weights import randomise
    from hwnas.nn.network import build

    return randomise(build(arch)).eval()


def _calibration(arch: ArchSpec, profile: DeviceProfile) -> list[Any]:
    rng = np.random.default_rng(0)
    shape = (profile.batch, 3, arch.resolution, arch.resolution)
    return [rng.standard_normal(shape).astype(np.float32) for _ in range(CALIBRATION_BATCHES)]


TIMINGS = Kind(
    "hwnas timings of deployed files",
    noun="a timing of an exported file",
    fix="Choose another --folder",
    old_keys=("question",),
)


@dataclasses.dataclass
class Timed:
    """The folder with exported files and what was timed of them."""

    folder: Path
    profile: DeviceProfile
    seed: int
    seconds: float

    @property
    def log(self) -> Path:
        return self.folder / "timings.jsonl"

    def begin(self, question: Mapping[str, Any]) -> None:
        """Starts the log, or raises UsageError when it answers another question."""
        self.folder.mkdir(parents=True, exist_ok=True)
        known = read_log(self.log, TIMINGS)
        before = known.of
        if before is None and known.rows:  # a log of before there were checksums
            before = known.rows[0]["question"]
        if before is not None and before != json.loads(json.dumps(question)):
            raise UsageError(f"{self.log} is of another question: {before}; choose another --folder")
        Log(self.log, TIMINGS, of=question).close()

    def write_files(self, networks: Sequence[Network], forms: Sequence[str]) -> dict[str, dict[str, Path]]:
        """Exports what is missing; by form and label."""
        files: dict[str, dict[str, Path]] = {}
        for form in forms:
            write = write_file if form == DEPLOYED else write_reference_form
            (self.folder / form).mkdir(exist_ok=True)
            files[form] = {}
            for done, network in enumerate(networks, start=1):
                output.say(f"exporting {done} of {len(networks)} ({form}): {network.label}")
                files[form][network.label] = write(
                    network.arch, self.folder / form / network.label, self.profile
                )
        return files

    def measure(self, files: Mapping[str, Mapping[str, Path]], rounds: int) -> None:
        """Times what the log lacks of each round, a piece a process."""
        reference = write_file(
            preset(REFERENCE_NETWORK), self.folder / "reference", dataclasses.replace(self.profile, batch=1)
        )
        known = {(line["round"], line["form"], line["name"]) for line in self._lines()}
        for number in range(rounds):
            wanted = [
                (form, name)
                for form, own in files.items()
                for name in own
                if (number, form, name) not in known
            ]
            random.Random(f"{self.seed}/{number}").shuffle(wanted)
            for start in range(0, len(wanted), PIECE):
                output.say(f"round {number + 1} of {rounds}: {len(wanted) - start} files left")
                self._piece(number, wanted[start : start + PIECE], files, reference)

    def _piece(
        self,
        number: int,
        wanted: Sequence[tuple[str, str]],
        files: Mapping[str, Mapping[str, Path]],
        reference: Path,
    ) -> None:
        asked = {
            "runtime": self.profile.runtime,
            "threads": self.profile.threads,
            "batch": self.profile.batch,
            "files": {f"{form}/{name}": str(files[form][name]) for form, name in wanted},
            "reference": str(reference),
            "seconds": self.seconds,
        }
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("plain_timing.py"))],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise HwnasError(f"timing failed: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
        with Log(self.log, TIMINGS, of=read_log(self.log, TIMINGS).of) as log:
            for line in done.stdout.splitlines():
                answer = json.loads(line)
                form, _, name = answer["name"].partition("/")
                log.append({"round": number, **answer, "form": form, "name": name})

    def _lines(self) -> list[dict[str, Any]]:
        """What was timed so far."""
        return [line for line in read_log(self.log, TIMINGS).rows if "question" not in line]

    def timings(self, form: str) -> Timings:
        """What was timed of a form, in the order of rounds."""
        found: dict[str, dict[int, tuple[float, float]]] = {}
        for line in self._lines():
            if line["form"] == form:
                found.setdefault(line["name"], {})[line["round"]] = line["clock_ms"], line["beside_ms"]
        return {name: [own[number] for number in sorted(own)] for name, own in found.items()}


def analysis(
    table: LatencyTable, networks: Sequence[Network], deployed: Timings, reference: Timings | None = None
) -> dict[str, Any]:
    """Errors of the table on these files, by the clock and at the table's pace; all figures as plain data."""
    clock = {name: median([own for own, _ in rounds]) for name, rounds in deployed.items()}
    ways = {"by the clock": clock}
    slowness = None
    if table.pace is not None and "graph" in table.measurement:
        pace, sharing = table.pace, fit_sharing(deployed.values())
        ways["at the table's pace"] = {
            name: median(sharing.at_middle_speed(rounds, pace)) for name, rounds in deployed.items()
        }
        slowness = median(
            [
                median([beside for _, beside in rounds]) / pace.reference_ms(clock[name])
                for name, rounds in deployed.items()
            ]
        )
    groups = {
        "all": (RANDOM, MACRO, OTHER),
        "random": (RANDOM,),
        "presets": (MACRO, OTHER),
    }
    scores = {
        f"{title}, {way}": found.to_dict()
        for way, measured in ways.items()
        for title, group in groups.items()
        if (found := _score(table, [one for one in networks if one.group in group], measured)) is not None
    }
    document: dict[str, Any] = {
        "table": table.name,
        "digest": table.digest,
        "caveats": list(table.caveats),
        "scores": scores,
        "slowness": slowness,
        "noise_floor_percent": _noise_floor(deployed),
        "networks": [
            {
                "label": one.label,
                "group": one.group,
                "clock_ms": clock[one.label],
                "rounds_ms": [own for own, _ in deployed[one.label]],
                "reference_network_ms": [beside for _, beside in deployed[one.label]],
                "predicted_ms": table.predict(one.arch).value,
            }
            for one in networks
            if one.label in clock
        ],
    }
    if reference:
        ratios = [
            clock[name] / median([own for own, _ in rounds])
            for name, rounds in reference.items()
            if name in clock
        ]
        document["deployed_over_reference"] = {
            "median": float(np.median(ratios)),
            "lowest": min(ratios),
            "highest": max(ratios),
        }
    return document


def _score(table: LatencyTable, networks: Sequence[Network], measured: Mapping[str, float]) -> Scores | None:
    kept = [one for one in networks if one.label in measured]
    if not kept:
        return None
    told = [table.predict(one.arch) for one in kept]
    intervals = [(one.low or one.value, one.high or one.value) for one in told]
    labels = [one.label for one in kept]
    return score(labels, [measured[label] for label in labels], [one.value for one in told], intervals)


def _noise_floor(timings: Timings) -> float | None:
    """Mean difference of even and odd rounds by the clock, in percent; None with one round."""
    halves = [
        (median([own for own, _ in rounds[::2]]), median([own for own, _ in rounds[1::2]]))
        for rounds in timings.values()
        if len(rounds) > 1
    ]
    return 100 * float(np.mean([abs(odd / even - 1) for even, odd in halves])) if halves else None


def main() -> None:
    parser = output.parser(__doc__)
    parser.add_argument("name", metavar="NAME", help="a latency table measured on this machine")
    parser.add_argument("--networks", type=int, default=100, help="random ones, besides all presets")
    parser.add_argument("--presets", type=int, help="only the first so many presets, for a short try")
    parser.add_argument("--rounds", type=int, default=5, help="fresh processes for each file")
    parser.add_argument("--seconds", type=float, default=0.4, help="of timing a file a round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reference-form", action="store_true", help="time the reference graph as well")
    parser.add_argument("--folder", type=Path, help="kept files and timings (benchmarks/measured/files-NAME)")
    parser.add_argument("--allow-mismatch", action="store_true", help="time here whatever the table is of")
    options = parser.parse_args()
    table = LatencyTable.load(options.name)
    if options.allow_mismatch:
        profile = table.profile
    else:
        profile, _ = profile_here(table)
    if options.reference_form and profile.runtime not in ("onnxruntime", "openvino"):
        raise UsageError(f"--reference-form is of onnxruntime and openvino, got {profile.runtime}")
    networks = unseen_networks(table, options.networks, seed=options.seed, space=SearchSpace.default())
    presets = [one for one in networks if one.group != RANDOM][: options.presets]
    networks = [one for one in networks if one.group == RANDOM] + presets
    networks = [one for one in networks if not table.missing(_ops(one.arch))]
    folder = options.folder or Path("benchmarks/measured") / f"files-{table.name}"
    timed = Timed(folder, profile, options.seed, options.seconds)
    timed.begin({"table": table.digest, "profile": profile.settings(), "seed": options.seed})
    forms = [DEPLOYED, REFERENCE] if options.reference_form else [DEPLOYED]
    timed.measure(timed.write_files(networks, forms), options.rounds)
    document = analysis(table, networks, timed.timings(DEPLOYED), timed.timings(REFERENCE) or None)
    title = (
        f"{table.name}: exported files, {profile.runtime} {profile.runtime_version}, {profile.threads} "
        f"thread(s), batch {profile.batch}, {profile.precision}"
    )
    grid = output.grid(
        title,
        ("networks", *COLUMNS),
        [[name, *cells(Scores(**own))] for name, own in document["scores"].items()],
    )
    output.answer({"tables": [document]}, [grid], options.json)
    for name in ("slowness", "noise_floor_percent", "deployed_over_reference"):
        if document.get(name) is not None:
            output.say(f"{name}: {document[name]}")


@functools.cache
def _ops(arch: ArchSpec) -> Any:
    from hwnas.space import lower

    return lower(arch)


if __name__ == "__main__":
    output.run(main)
