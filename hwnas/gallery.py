"""The gallery: networks that searches found for the devices at hand, by name.

`docs/gallery/NAME.yaml` is an architecture file. `docs/gallery/gallery.json` says what each network was
found for and what is predicted for it. `python docs/gallery/make.py` searches all of them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.errors import FileFormatError, UsageError, did_you_mean
from hwnas.estimate import Estimate
from hwnas.io import json as json_io
from hwnas.io import yaml as yaml_io
from hwnas.plugins import PACKAGE
from hwnas.search.trial import estimate_fields, estimate_from
from hwnas.space.arch import ArchSpec
from hwnas.targets import Promise, Target

__all__ = ["INDEX", "PREFIX", "Entry", "entries", "entry", "folder"]

PREFIX = "gallery:"
"""What an ARCH of the gallery begins with: `gallery:rpi4-20ms`."""
INDEX = "gallery.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """One network of the gallery: the most accurate one that a search found within a budget on a device."""

    device: str
    budget_ms: float
    id: str
    """`ArchSpec.id` of the network."""
    latency: Estimate
    """In ms for one run, as the device's table predicts it."""
    provenance: str
    """Of the latency: that of the device's table, `measured`, `transferred` or `estimated`."""
    table_digest: str
    """Of the table, as it was."""
    accuracy: Estimate
    """ImageNet-1K top-1 in %, estimated by `published`."""
    images_per_s: float
    """Predicted; of a batch where the device is one."""
    params: int
    macs: int
    attentions: tuple[str, ...]

    @property
    def name(self) -> str:
        """`rpi4-20ms`."""
        return f"{self.device}-{self.budget_ms:g}ms"

    @property
    def arch(self) -> ArchSpec:
        """The architecture, read from its file."""
        file = folder() / f"{self.name}.yaml"
        return ArchSpec.from_dict(yaml_io.read(file), source=str(file))

    @property
    def promise(self) -> Promise:
        """The budget that later steps check, as for a network of a run."""
        return Promise((Target(self.device, self.budget_ms),), run="gallery", network=self.id)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as `gallery.json` and `hwnas gallery --json` have it."""
        return {
            "name": self.name,
            "arch": f"{PREFIX}{self.name}",
            "device": self.device,
            "budget_ms": self.budget_ms,
            "id": self.id,
            **estimate_fields("latency{}_ms", self.latency),
            "provenance": self.provenance,
            "table_digest": self.table_digest,
            **estimate_fields("accuracy{}", self.accuracy),
            "images_per_s": self.images_per_s,
            "params": self.params,
            "macs": self.macs,
            "attentions": list(self.attentions),
        }

    @classmethod
    def from_dict(cls, data: Any) -> Entry:
        """What `to_dict` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            device=str(data["device"]),
            budget_ms=float(data["budget_ms"]),
            id=str(data["id"]),
            latency=estimate_from(data, "latency{}_ms", "ms"),
            provenance=str(data["provenance"]),
            table_digest=str(data["table_digest"]),
            accuracy=estimate_from(data, "accuracy{}", "%"),
            images_per_s=float(data["images_per_s"]),
            params=int(data["params"]),
            macs=int(data["macs"]),
            attentions=tuple(map(str, data["attentions"])),
        )


def folder() -> Path:
    """Where the files are: in the installed package, or in `docs` of a source checkout."""
    installed = PACKAGE / "gallery_networks"
    return installed if installed.is_dir() else PACKAGE.parent / "docs" / "gallery"


def entries(*, devices: Sequence[str] = (), within_ms: float | None = None) -> tuple[Entry, ...]:
    """The networks for these devices (default: all), each predicted to take at most `within_ms`.

    By device, the most accurate first. Raises UsageError for a device that the gallery does not have,
    FileFormatError when its index is damaged.
    """
    file = folder() / INDEX
    try:
        found = [Entry.from_dict(row) for row in json_io.read(file)["networks"]]
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{file}: not an index of the gallery: {error!r}") from None
    known = sorted({one.device for one in found})
    for device in devices:
        if device not in known:
            raise UsageError(
                f"the gallery has no network for '{device}'.{did_you_mean(device, known)} "
                f"Search one: hwnas search --device {device} --budget TIME. Known: {', '.join(known)}"
            )
    chosen = [
        one
        for one in found
        if (not devices or one.device in devices) and (within_ms is None or one.latency.value <= within_ms)
    ]
    return tuple(sorted(chosen, key=lambda one: (one.device, -one.accuracy.value)))


def entry(name: str) -> Entry:
    """The network of that name, with or without `gallery:`. Raises UsageError when there is none."""
    by_name = {one.name: one for one in entries()}
    short = name.removeprefix(PREFIX)
    if short not in by_name:
        raise UsageError(
            f"no network '{short}' in the gallery.{did_you_mean(short, by_name)} 'hwnas gallery' lists them"
        )
    return by_name[short]
