"""The published networks, by name: one YAML file a family, each network an ArchSpec."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from hwnas.errors import UsageError, did_you_mean
from hwnas.io import yaml as yaml_io
from hwnas.space.arch import FORMAT, ArchSpec

__all__ = ["Preset", "preset", "preset_info", "preset_names", "presets"]


@dataclass(frozen=True, slots=True)
class Preset:
    """A published network and what its paper says of it."""

    name: str
    family: str
    paper: str
    arch: ArchSpec
    params_m: float | None = None
    """Published parameters, in millions, by the paper's own way of counting."""
    mmacs: float | None = None
    """Published multiply-accumulates, in millions, by the paper's own way of counting."""
    imagenet_top1_percent: float | None = None
    """Published ImageNet-1K top-1 accuracy."""
    note: str = ""


def preset_names() -> tuple[str, ...]:
    """Names of all published networks, family by family."""
    return tuple(presets())


def preset(name: str) -> ArchSpec:
    """The architecture of a published network. Raises UsageError for an unknown name."""
    return preset_info(name).arch


def preset_info(name: str) -> Preset:
    """A published network with its figures. Raises UsageError for an unknown name."""
    known = presets()
    if name not in known:
        raise UsageError(
            f"no published network '{name}'.{did_you_mean(name, known)} `hwnas models` lists them"
        )
    return known[name]


@lru_cache(maxsize=1)
def presets() -> dict[str, Preset]:
    """All published networks by name."""
    found: dict[str, Preset] = {}
    for file in sorted(Path(__file__).parent.glob("*.yaml")):
        family = yaml_io.read(file)
        for name, model in family["models"].items():
            found[name] = Preset(
                name=name,
                family=family["family"],
                paper=family["paper"],
                arch=ArchSpec.from_dict({"format": FORMAT, **model["arch"]}, source=name),
                note=model.get("note", ""),
                **model.get("published", {}),
            )
    return found
