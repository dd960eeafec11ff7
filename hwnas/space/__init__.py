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

__all__ = [
    "ArchSpec",
    "Attention",
    "CascadedGroup",
    "ElementWise",
    "Head",
    "Reuse",
    "SingleHead",
    "Stage",
    "Stem",
]
