"""The search space: architectures as data, the ops they run, the choices there are."""

from hwnas.space.arch import (
    ArchSpec,
    Attention,
    CascadedGroup,
    ElementWise,
    Head,
    Reuse,
    SingleHead,
    Stage,
    Stem,
)
from hwnas.space.ops import OpSpec, Primitive, count_macs, count_params, lower
from hwnas.space.presets import Preset, preset, preset_info, preset_names, presets
from hwnas.space.search_space import AttentionOption, Decision, SearchSpace, StageSpace

__all__ = [
    "ArchSpec",
    "Attention",
    "AttentionOption",
    "CascadedGroup",
    "Decision",
    "ElementWise",
    "Head",
    "OpSpec",
    "Preset",
    "Primitive",
    "Reuse",
    "SearchSpace",
    "SingleHead",
    "Stage",
    "StageSpace",
    "Stem",
    "count_macs",
    "count_params",
    "lower",
    "preset",
    "preset_info",
    "preset_names",
    "presets",
]
