"""How every network of the ground truth is trained: fixed, so that accuracies may be compared.

One training goes on after the last finished epoch when it was killed. Its CPU seconds stand beside the
wall clock: on a machine that others use too, only the former say what it cost.
"""

from __future__ import annotations

import io
import math
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hwnas.data.images import subset
from hwnas.data.pixels import Pixels, decoded
from hwnas.data.randomness import isolated
from hwnas.data.sources import open_images
from hwnas.io.atomic import write_whole
from hwnas.nn import build
from hwnas.space import ArchSpec


@dataclass(frozen=True, slots=True)
class Protocol:
    """All that decides the outcome but the network and the seed."""

    name: str
    train_images: int
    """Equally many of each class, always the same ones."""
    epochs: int
    batch_size: int
    peak_lr: float
    """Of AdamW; reached after the first epoch, then down to 0 in a cosine."""
    device: str
    side: int = 32
    """Of the images, in pixels."""
    epoch_test_images: int = 2_000
    """Test images that the accuracy of each epoch is taken on; the last one's is on all."""
    weight_decay: float = 0.025
    label_smoothing: float = 0.1
    clip_grad_norm: float = 1.0
    precision: str = "float32"
    """Of what autocast casts; weights, and their updates, are float32. On the CPU that this was tried
    on, bfloat16 is slower: 222 images a CPU second instead of 307 with UniForm-t."""


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("cpu", 10_000, epochs=6, batch_size=64, peak_lr=1e-3, device="cpu"),
        Protocol("gpu", 50_000, epochs=20, batch_size=128, peak_lr=2e-3, device="cuda", precision="bfloat16"),
    )
}


@dataclass(frozen=True, slots=True)
class Data:
    """The images of a protocol, decoded."""

    train: Pixels
    test: Pixels
    epoch_test: Pixels


def read_data(path: Path, protocol: Protocol) -> Data:
    """The protocol's images of a CIFAR-10 as JPEG files (train/CLASS, test/CLASS; a folder or a tar)."""
    images = open_images(path)
    classes = images.classes()
    train, test = (
        decoded(images, selected, classes, side=protocol.side).to(protocol.device)
        for selected in (subset(images.split("train"), protocol.train_images, 0), images.split("test"))
    )
    return Data(train, test, test.first(protocol.epoch_test_images))


def train(
    arch: ArchSpec,
    data: Data,
    protocol: Protocol,
    *,
    seed: int,
    state_file: Path,
    report: Callable[[str], None],
    start: Callable[[nn.Module], None] | None = None,
) -> dict[str, Any]:
    """Accuracy by epoch, and what it cost. `state_file` holds the training while it is not finished.

    `start` may give the network other weights than fresh ones; the ground truth's own have none.
    """
    steps = len(data.train) // min(protocol.batch_size, len(data.train))
    with isolated(seed, "weights"):
        network = build(arch)
        if start is not None:
            start(network)
    network.to(protocol.device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(_groups(network, protocol.weight_decay), lr=protocol.peak_lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _share_of_peak(step, steps, protocol.epochs)
    )
    key = f"{protocol.name} {arch.id} {seed}"
    epochs: list[dict[str, float]] = []
    if state_file.exists():
        saved = torch.load(state_file, map_location=protocol.device, weights_only=True)
        if saved["key"] == key:
            epochs = saved["epochs"]
            network.load_state_dict(saved["network"])
            optimizer.load_state_dict(saved["optimizer"])
            schedule.load_state_dict(saved["schedule"])
            report(f"resumed after epoch {len(epochs)}")
    criterion = nn.CrossEntropyLoss(label_smoothing=protocol.label_smoothing)
    for number in range(len(epochs) + 1, protocol.epochs + 1):
        cpu_started, wall_started = time.process_time(), time.perf_counter()
        network.train()
        total = torch.zeros((), device=protocol.device)
        for images, labels in data.train.training_batches(protocol.batch_size, seed=seed, epoch=number):
            with _autocast(protocol):
                logits = network(images)
            loss = criterion(logits.float(), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), protocol.clip_grad_norm)
            optimizer.step()
            schedule.step()
            total += loss.detach()
        top1 = accuracy_percent(
            network, data.test if number == protocol.epochs else data.epoch_test, protocol
        )
        epochs.append(
            {
                "loss": round(float(total) / steps, 4),
                "top1_percent": round(top1, 3),
                "cpu_seconds": round(time.process_time() - cpu_started, 2),
                "wall_seconds": round(time.perf_counter() - wall_started, 2),
            }
        )
        report(f"epoch {number}: loss {epochs[-1]['loss']}, top-1 {top1:.2f} %")
        content = io.BytesIO()
        torch.save(
            {
                "key": key,
                "epochs": epochs,
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
            },
            content,
        )
        write_whole(state_file, content.getvalue())
    return {
        "top1_percent": epochs[-1]["top1_percent"],
        "top1_by_epoch_percent": [epoch["top1_percent"] for epoch in epochs],
        "loss_by_epoch": [epoch["loss"] for epoch in epochs],
        "cpu_seconds": round(sum(epoch["cpu_seconds"] for epoch in epochs), 1),
        "wall_seconds": round(sum(epoch["wall_seconds"] for epoch in epochs), 1),
    }


@torch.inference_mode()
def accuracy_percent(network: nn.Module, pixels: Pixels, protocol: Protocol) -> float:
    """Top-1 of the network, in eval mode, on the images."""
    network.eval()
    right = 0
    for images, labels in pixels.evaluation_batches(500):
        with _autocast(protocol):
            logits = network(images)
        right += int((logits.argmax(1) == labels).sum())
    return 100 * right / len(pixels)


def environment(protocol: Protocol) -> dict[str, Any]:
    """What a figure may depend on beside protocol, network and seed."""
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name() if protocol.device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
    }


def described(protocol: Protocol) -> dict[str, Any]:
    """The protocol as plain data."""
    return asdict(protocol)


def _autocast(protocol: Protocol) -> torch.autocast:
    return torch.autocast(protocol.device, dtype=torch.bfloat16, enabled=protocol.precision == "bfloat16")


def _share_of_peak(step: int, steps: int, epochs: int) -> float:
    """The learning rate over its peak: an epoch of linear warm-up, then a cosine down to 0."""
    if step < steps:
        return (step + 1) / steps
    return 0.5 * (1 + math.cos(math.pi * (step - steps) / max(1, steps * (epochs - 1))))


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Kernels and matrices decay; biases, norms and scalars do not."""
    parameters = list(network.parameters())
    return [
        {"params": [one for one in parameters if one.ndim > 1], "weight_decay": weight_decay},
        {"params": [one for one in parameters if one.ndim <= 1], "weight_decay": 0.0},
    ]
