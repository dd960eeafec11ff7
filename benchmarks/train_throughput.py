"""How many images a second are trained, beside timm's own way of training, and what decoding takes of it.

Both sides see the same folder of images, the same network, batch, precision, augmentation (random crop,
mirroring, colour jitter, random erasing, mixup and CutMix; no RandAugment, whose strongest posterising
stops timm's side with a Pillow of today), optimiser and number of decoding processes,
and take turns. timm's side is put together from timm's parts as its training script does: dataset,
loader with prefetcher, timm's own model, optimiser, scheduler, Mixup. hwnas's side is `hwnas.train.train`.
The figure is the median seconds between two updates, without the first two of a round.

    python benchmarks/train_throughput.py --data FOLDER --network efficientvit-m0 --batch 32
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path

import timm
import timm.data
import timm.loss
import timm.optim
import timm.scheduler
import torch

from hwnas.space.presets import preset, preset_info
from hwnas.train.checkpoint import EpochRecord
from hwnas.train.data import training_batches, worker_count
from hwnas.train.images import Images, open_images
from hwnas.train.loop import train
from hwnas.train.observer import Progress
from hwnas.train.recipe import Recipe, read_recipe

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

    def seconds(self) -> list[float]:
        counted = self.times[SETTLING:]
        return [after - before for before, after in itertools.pairwise(counted)]


def hwnas_round(name: str, images: Images, recipe: Recipe, updates: int, device: str) -> list[float]:
    """Seconds of each counted update of hwnas's training."""
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        limit = updates * recipe.batch_size
        train(preset(name), images, recipe, Path(folder), limit=limit, device=device, observer=watch)
    return watch.seconds()


def timm_round(name: str, data: Path, recipe: Recipe, updates: int, device: str) -> list[float]:
    """Seconds of each counted update of timm's way of training."""
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
        num_workers=worker_count(recipe),
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
        images, images.split("train"), images.classes(), recipe, size=preset(name).resolution, workers=0
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
    parser.add_argument("--updates", type=int, default=10, help="of a round")
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
    images = shortened(open_images(asked.data))
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(asked.rounds):
        theirs += timm_round(asked.network, asked.data, recipe, asked.updates, asked.device)
        ours += hwnas_round(asked.network, images, recipe, asked.updates, asked.device)
    decoding = decoding_seconds(asked.network, images, recipe, asked.updates)
    mine, other = statistics.median(ours), statistics.median(theirs)
    print(f"{asked.network}, {asked.device}, {asked.precision}, batch {asked.batch}, measured, per update:")
    print(f"  timm   {other * 1e3:8.1f} ms  {asked.batch / other:8.1f} images/s")
    print(
        f"  hwnas  {mine * 1e3:8.1f} ms  {asked.batch / mine:8.1f} images/s  {other / mine:.3f} times timm's"
    )
    print(
        f"  decoding and augmenting a batch in one process: {decoding * 1e3:.1f} ms, "
        f"{100 * decoding / mine:.1f} % of hwnas's update, beside {worker_count(recipe)} decoding processes"
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
            "decoding_seconds": decoding,
        }
        asked.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
