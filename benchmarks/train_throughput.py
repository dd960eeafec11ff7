"""How many images a second are trained, beside timm's own way of training, and what decoding takes of it.

Both sides see the same folder of images, the same network, batch, precision, augmentation (random crop,
mirroring, colour jitter, random erasing, mixup and CutMix; no RandAugment, whose strongest posterising
stops timm's side with a Pillow of today), optimiser and number of decoding processes,
and take turns, each first every other round. timm's side is put together from timm's parts as its
training script does: dataset, loader with prefetcher, timm's own model, optimiser, scheduler, Mixup.
hwnas's side is `hwnas.train.training`.
The figure is the seconds of an update, all of a round but the first two; the median of the rounds. Beside
it stands what of that time hwnas's loop waits for its next batch, and what decoding a batch takes by itself.

    python benchmarks/train_throughput.py --data FOLDER --network efficientvit-m0 --batch 32
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import timm
import timm.data
import timm.loss
import timm.optim
import timm.scheduler
import torch

from hwnas.data.images import Images
from hwnas.data.loader import Batch, Batches, training_batches, worker_count
from hwnas.data.sources import open_images
from hwnas.space.presets import preset, preset_info
from hwnas.train.callbacks import Progress
from hwnas.train.checkpoint import EpochRecord
from hwnas.train.recipe import Recipe, read_recipe
from hwnas.train.training import train

SETTLING = 2
"""Updates at the start of a round that are not counted."""


class Stopwatch:
    """Remembers when each update was done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def note(self, text: str) -> None: ...
    def epoch(self, record: EpochRecord) -> None: ...

    def step(self, progress: Progress) -> None:
        self.times.append(time.perf_counter())

    def seconds(self) -> float:
        """Of a counted update, on average."""
        counted = self.times[SETTLING - 1 :]
        return (counted[-1] - counted[0]) / (len(counted) - 1)


@contextlib.contextmanager
def waiting() -> Iterator[list[float]]:
    """The seconds that each batch of hwnas's loader was waited for, within it."""
    waits: list[float] = []
    epoch = Batches.epoch

    def timed(self: Batches, number: int) -> Iterator[Batch]:
        batches = epoch(self, number)
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            waits.append(time.perf_counter() - began)
            yield batch

    Batches.epoch = timed  # type: ignore[method-assign]
    try:
        yield waits
    finally:
        Batches.epoch = epoch  # type: ignore[method-assign]


def hwnas_round(name: str, images: Images, recipe: Recipe, updates: int, device: str) -> tuple[float, float]:
    """Seconds of an update of hwnas's training, and the part of them spent waiting for a batch."""
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder, waiting() as waits:
        limit = updates * recipe.batch_size
        train(preset(name), images, recipe, Path(folder), limit=limit, device=device, callback=watch)
    counted = waits[SETTLING:updates]  # after them come batches to evaluate on
    return watch.seconds(), sum(counted) / len(counted) / watch.seconds()


def timm_round(name: str, data: Path, recipe: Recipe, updates: int, device: str) -> float:
    """Seconds of an update of timm's way of training."""
    family, _, size = name.partition("-")
    target = torch.device(device)
    dataset = timm.data.create_dataset("", root=str(data), split="train", is_training=True)
    classes = len(dataset.reader.class_to_idx)
    model = timm.create_model(f"{family}_{size}", num_classes=classes).to(target)
    loader = timm.data.create_loader(
        dataset,
        input_size=(3, preset(name).resolution, preset(name).resolution),
        batch_size=recipe.batch_size,
        is_training=True,
        use_prefetcher=True,
        re_prob=recipe.random_erasing,
        re_mode="pixel",
        scale=(recipe.crop_scale_min, 1.0),
        hflip=recipe.horizontal_flip,
        color_jitter=recipe.color_jitter,
        auto_augment=recipe.auto_augment or None,
        interpolation="bicubic",
        num_workers=worker_count(recipe.workers),
        pin_memory=device != "cpu",
        device=target,
    )
    optimizer = timm.optim.create_optimizer_v2(
        model, opt="adamw", lr=recipe.peak_lr, weight_decay=recipe.weight_decay
    )
    schedule = timm.scheduler.CosineLRScheduler(optimizer, t_initial=updates, t_in_epochs=False)
    mix = timm.data.Mixup(
        mixup_alpha=recipe.mixup_alpha,
        cutmix_alpha=recipe.cutmix_alpha,
        label_smoothing=recipe.label_smoothing,
        num_classes=classes,
    )
    criterion = timm.loss.SoftTargetCrossEntropy()
    is_bf16 = recipe.precision == "bf16" or (recipe.precision == "mixed" and device != "cpu")
    watch = Stopwatch()
    model.train()
    for step, (images, labels) in enumerate(loader):
        if step == updates:
            break
        images, targets = mix(images, labels)
        optimizer.zero_grad()
        with torch.autocast(device, dtype=torch.bfloat16) if is_bf16 else contextlib.nullcontext():
            loss = criterion(model(images), targets)
        loss.backward()
        optimizer.step()
        schedule.step_update(step)
        if device != "cpu":
            torch.cuda.synchronize()
        watch.times.append(time.perf_counter())
    return watch.seconds()


def decoding_seconds(name: str, images: Images, recipe: Recipe, updates: int) -> float:
    """Seconds that a batch takes to decode and augment, in one process and with nothing else to do."""
    batches = training_batches(
        images,
        images.split("train"),
        images.classes(),
        recipe.augmentation,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        size=preset(name).resolution,
        workers=0,
    )
    seconds = []
    began = time.perf_counter()
    for step, _ in enumerate(batches.epoch(1)):
        seconds.append(time.perf_counter() - began)
        if step == updates:
            break
        began = time.perf_counter()
    return statistics.median(seconds[1:])


def shortened(images: Images, evaluated: int = 64) -> Images:
    """The same images with few to evaluate on, which is not what is timed."""
    split = images.evaluation_split()
    kept = {image.name for image in images.split(split)[:evaluated]}
    return dataclasses.replace(
        images, images=tuple(image for image in images.images if image.split != split or image.name in kept)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="a folder with train/CLASS/* and val/CLASS/*"
    )
    parser.add_argument("--network", default="efficientvit-m0", help="an EfficientViT or SHViT preset")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--updates", type=int, default=10, help="of a round, 4 at least")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile on hwnas's side, 'everything on'"
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    asked = parser.parse_args()
    if preset_info(asked.network).family not in ("efficientvit", "shvit"):
        parser.error(f"timm has no network '{asked.network}': give an EfficientViT or SHViT preset")
    recipe = dataclasses.replace(
        read_recipe("imagenet"),
        epochs=1,
        warmup_epochs=0.0,
        batch_size=asked.batch,
        precision=asked.precision,
        compile=asked.compile,
        auto_augment="",
    )
    if asked.updates < SETTLING + 2:
        parser.error(f"--updates must be {SETTLING + 2} at least, got {asked.updates}")
    images = shortened(open_images(asked.data))
    ours: list[float] = []
    waits: list[float] = []
    theirs: list[float] = []

    def mine() -> None:
        seconds, wait = hwnas_round(asked.network, images, recipe, asked.updates, asked.device)
        ours.append(seconds)
        waits.append(wait)

    def timms() -> None:
        theirs.append(timm_round(asked.network, asked.data, recipe, asked.updates, asked.device))

    for number in range(asked.rounds):
        for side in (mine, timms) if number % 2 else (timms, mine):
            side()
    decoding = decoding_seconds(asked.network, images, recipe, asked.updates)
    own, other = statistics.median(ours), statistics.median(theirs)
    each = sorted(theirs[number] / ours[number] for number in range(asked.rounds))
    print(f"{asked.network}, {asked.device}, {asked.precision}, batch {asked.batch}, measured, per update:")
    print(f"  timm   {other * 1e3:8.1f} ms  {asked.batch / other:8.1f} images/s")
    print(
        f"  hwnas  {own * 1e3:8.1f} ms  {asked.batch / own:8.1f} images/s  {other / own:.3f} times timm's "
        f"(by round {each[0]:.3f} to {each[-1]:.3f})"
    )
    print(
        f"  hwnas waits for batches {100 * statistics.median(waits):.1f} % of the time, beside "
        f"{worker_count(recipe.workers)} decoding processes; decoding and augmenting a batch takes one "
        f"process {decoding * 1e3:.1f} ms, {100 * decoding / own:.1f} % of an update"
    )
    if asked.json:
        figures = {
            "network": asked.network,
            "device": asked.device,
            "precision": asked.precision,
            "batch": asked.batch,
            "threads": torch.get_num_threads(),
            "timm_seconds": theirs,
            "hwnas_seconds": ours,
            "hwnas_waiting_share": waits,
            "decoding_seconds": decoding,
        }
        asked.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
