"""Where a training computes: the CPU or a GPU."""

from __future__ import annotations

from hwnas.errors import UsageError

__all__ = ["ACCELERATORS", "choose_accelerator"]

ACCELERATORS = ("auto", "cpu", "cuda")


def choose_accelerator(name: str) -> str:
    """`cpu` or `cuda` for one of `ACCELERATORS`; `auto` is a GPU where there is one.

    Raises UsageError for another name, and for `cuda` on a machine without a usable GPU.
    """
    import torch

    if name not in ACCELERATORS:
        raise UsageError(
            f"unknown accelerator '{name}': it must be {', '.join(ACCELERATORS[:-1])} or {ACCELERATORS[-1]}"
        )
    is_there = torch.cuda.is_available()
    if name == "cuda" and not is_there:
        raise UsageError(
            "accelerator cuda: this torch finds no usable GPU. Run 'hwnas doctor', or use --accelerator cpu"
        )
    return "cuda" if is_there and name != "cpu" else "cpu"
