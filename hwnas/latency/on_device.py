"""Networks timed on a device as wholes: architectures, exported for its runtime, and finished models."""

from __future__ import annotations

import functools
import random
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas import plugins
from hwnas.latency.link import Link, LocalLink
from hwnas.latency.networks import MeasuredNetwork, measure_networks
from hwnas.latency.plan import COMPANION
from hwnas.latency.profile import DeviceProfile
from hwnas.space import ArchSpec, preset

if TYPE_CHECKING:
    from hwnas.nn.formats import Exporter

__all__ = ["exporter_for", "measure_archs"]


def exporter_for(runtime: str, precision: str) -> Exporter:
    """What makes the models that a runtime takes.

    Raises UsageError for an unknown runtime or a precision it has no models in, MissingPackageError
    where the exporter's packages are not there.
    """
    model_format = plugins.load("runtimes", runtime).MODEL_FORMAT
    for package in ("onnx", "torch") if model_format == "onnx" else ("torch",):
        plugins.require(package, extra="torch")
    from hwnas.nn import formats

    return formats.exporter(model_format, precision)


def measure_archs(
    networks: Mapping[str, ArchSpec | bytes],
    profile: DeviceProfile,
    *,
    rounds: int = 3,
    seed: int = 0,
    start: Callable[[], Link] | None = None,
    report: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> dict[str, MeasuredNetwork]:
    """Times each network in so many fresh processes; by the names given.

    An architecture is exported with random weights, in the form that tables are measured on; bytes are a
    model as the runtime takes it (see `hwnas.nn.formats`), of the profile's precision and batch.
    `report` is told (name, timings done, of how many); what it raises ends the measuring.

    Raises MissingPackageError where the exporter's packages are not there, UsageError for a precision
    that the runtime's format does not have, HwnasError when a network does not run, BoardError when the
    measuring process is gone.
    """
    to_model = exporter_for(profile.runtime, profile.precision)
    from hwnas.nn.export import one_thread

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
            companion=to_model.network_model(preset(COMPANION), batch=1),
            profile=profile,
            start=start or (lambda: LocalLink(profile.runtime)),
            rng=random.Random(seed),
            rounds=rounds,
            report=report,
        )
