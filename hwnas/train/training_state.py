"""TrainingState: what only a resumed training needs, and how it lies among a checkpoint's tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hwnas.train.sealed import Tensors, below

if TYPE_CHECKING:
    import torch

__all__ = ["TrainingState", "packed", "unpacked"]


@dataclass(frozen=True, slots=True)
class TrainingState:
    """What only a resumed training needs."""

    model: Tensors
    """The weights that are trained (not their moving average)."""
    optimizer: dict[str, Any]
    """The optimiser's own state dict."""
    updates: int
    """Updates so far; the schedule follows from it."""
    scaler: dict[str, Any] = field(default_factory=dict)
    """Loss scaling of float16; empty elsewhere."""
    average: Tensors = field(default_factory=dict)
    """The moving average as it is trained, with both heads of a distilled network; empty without one."""


def packed(state: TrainingState, weights: Mapping[str, torch.Tensor]) -> tuple[Tensors, dict[str, Any]]:
    """Tensors and plain data of the state; what is the same as in `weights` is left out."""
    tensors: Tensors = {}
    for part, own in (("model", state.model), ("average", state.average)):
        tensors |= {
            f"{part}/{name}": tensor
            for name, tensor in own.items()
            if not _is_same(tensor, weights.get(name))  # stored once
        }
    plain: dict[str, dict[str, Any]] = {}
    for index, slots in state.optimizer["state"].items():
        plain[str(index)] = {}
        for name, value in slots.items():
            if hasattr(value, "data_ptr"):
                tensors[f"optimizer/{index}/{name}"] = value
            else:
                plain[str(index)][name] = value
    return tensors, {
        "updates": state.updates,
        "scaler": state.scaler,
        "averaged": bool(state.average),
        "optimizer": {"param_groups": state.optimizer["param_groups"], "state": plain},
    }


def unpacked(plain: Mapping[str, Any], tensors: Tensors, weights: Tensors) -> TrainingState:
    """The state that `packed` took apart; raises KeyError, TypeError or ValueError for anything else."""
    slots: dict[int, dict[str, Any]] = {
        int(index): dict(values) for index, values in plain["optimizer"]["state"].items()
    }
    for name, tensor in below(tensors, "optimizer/").items():
        index, _, slot = name.partition("/")
        slots[int(index)][slot] = tensor
    return TrainingState(
        model=weights | below(tensors, "model/"),
        optimizer={"state": slots, "param_groups": plain["optimizer"]["param_groups"]},
        updates=plain["updates"],
        scaler=plain["scaler"],
        average=weights | below(tensors, "average/") if plain.get("averaged", True) else {},
    )


def _is_same(tensor: torch.Tensor, other: torch.Tensor | None) -> bool:
    return other is not None and tensor.data_ptr() == other.data_ptr()
