"""Seeds that follow from what they are for, and random state that nothing outside sees.

timm's and torchvision's augmentations draw from the global generators of Python, numpy and torch.
Here these are seeded for one epoch, or one image, and put back afterwards: what an image looks like in
epoch 7 follows from (seed, 7, its number) alone, whatever ran before and in whichever process.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator

import numpy as np
import torch

__all__ = ["derived_seed", "deterministic", "isolated"]


def derived_seed(*parts: int | str) -> int:
    """A 63-bit seed from what it is for, such as (0, "order", 7); the same on every machine."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextlib.contextmanager
def isolated(*parts: int | str) -> Iterator[None]:
    """Within, the global generators (of the CPU) are seeded with `derived_seed(*parts)`."""
    seed = derived_seed(*parts)
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would walk the GPUs each time
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


@contextlib.contextmanager
def deterministic(device: str) -> Iterator[None]:
    """On a CPU, sums in a fixed order; without it, the gradient of an attention bias is a race."""
    if device != "cpu":
        yield
        return
    was_on = torch.are_deterministic_algorithms_enabled()
    was_warning = torch.is_deterministic_algorithms_warn_only_enabled()
    was_filling = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_on, warn_only=was_warning)
        torch.utils.deterministic.fill_uninitialized_memory = was_filling  # type: ignore[attr-defined]
