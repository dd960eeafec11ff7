"""Group: a training in several processes, a GPU each, as torchrun starts them.

    torchrun --nproc-per-node 4 -m hwnas train uniform-t --data DATA

Every process takes its share of each batch, and the gradients are averaged over all before each
update, so the weights stay the same everywhere; BatchNorm sees a share at a time, and its statistics
are averaged after each epoch. The gradients travel as one vector: for networks of a few million
weights that costs less than hiding it behind the backward pass would save.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from hwnas.errors import UsageError

__all__ = ["Group", "joined"]


@dataclass(frozen=True, slots=True)
class Group:
    """The processes of a training; with `size` 1, every method leaves things as they are."""

    rank: int = 0
    """Which of them this one is; 0 writes the files."""
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            torch.distributed.barrier()

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            torch.distributed.all_reduce(values)
        return values

    def average_gradients(self, network: nn.Module) -> None:
        """Each gradient becomes the mean over all processes; one that a process lacks counts as zero.

        A parameter without a gradient in every process (a branch that no subnet of this update has) keeps
        None, so that the optimiser leaves it alone, as it does in one process.
        """
        if self.size == 1:
            return
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        used = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self._average([*(p.grad for p in parameters if p.grad is not None), used])
        for parameter, share in zip(parameters, used.tolist(), strict=True):
            if not share:
                parameter.grad = None

    def average_statistics(self, network: nn.Module) -> None:
        """Each running mean and variance becomes the mean over all processes."""
        if self.size > 1:
            self._average(buffer for buffer in network.buffers() if buffer.is_floating_point())

    def gathered(self, items: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The items of all processes, in order of rank."""
        if self.size == 1:
            return items
        lists: list[list[tuple[str, str]] | None] = [None] * self.size
        torch.distributed.all_gather_object(lists, items)
        return [item for some in lists for item in some or []]

    def _average(self, tensors: Iterable[torch.Tensor]) -> None:
        tensors = list(tensors)
        if not tensors:
            return
        together = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        torch.distributed.all_reduce(together)
        together /= self.size
        offset = 0
        for tensor in tensors:
            part = together[offset : offset + tensor.numel()]
            tensor.detach().copy_(part.view(tensor.shape))
            offset += tensor.numel()


@contextlib.contextmanager
def joined(device: str, batch_size: int) -> Iterator[Group]:
    """The group that this process belongs to: the one torchrun's environment names, or itself alone.

    Raises UsageError when the batch cannot be shared equally, or a process has no GPU of its own.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group()
        return
    if batch_size % size or batch_size // size < 2:
        raise UsageError(
            f"batch_size must be a multiple of the number of processes, with at least 2 images each: "
            f"got {batch_size} for {size} processes"
        )
    rank, place = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if device != "cpu":
        if place >= torch.cuda.device_count():
            raise UsageError(
                f"each process needs a GPU of its own, got process {place + 1} on a machine with "
                f"{torch.cuda.device_count()}"
            )
        torch.cuda.set_device(place)
    was_there = torch.distributed.is_initialized()
    if not was_there:
        torch.distributed.init_process_group(
            "gloo" if device == "cpu" else "nccl", rank=rank, world_size=size
        )
    try:
        yield Group(rank, size)
    finally:
        if not was_there:
            torch.distributed.destroy_process_group()
