"""Training a network on images: one process, a CPU or a GPU, resumable after any interruption.

A training's folder:

    arch.yaml                  the network, adapted to the images
    recipe.yaml                how it is trained
    last, previous, best       see `hwnas.train.checkpoint`
    history.jsonl              a line an epoch
    result.json                at the end: accuracy, recipe, time, environment

What is kept is the last finished epoch; an interruption repeats the epoch it fell into. Randomness of
an epoch follows from the seed and the epoch's number (`hwnas.train.randomness`), so a resumed training
ends, on a CPU with as many threads, with the very bits of an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import nn

from hwnas import plugins
from hwnas.errors import FileFormatError, HwnasError, UsageError
from hwnas.space import ArchSpec
from hwnas.train import checkpoint as checkpoints
from hwnas.train.checkpoint import Checkpoint, EpochRecord, TrainingState
from hwnas.train.data import Batches, evaluation_batches, training_batches, worker_count
from hwnas.train.evaluation import Evaluation, evaluate
from hwnas.train.images import Image, Images, open_images, subset
from hwnas.train.randomness import isolated
from hwnas.train.recipe import Recipe
from hwnas.train.result import result_document
from hwnas.whole_file import write_whole

__all__ = ["Observer", "Progress", "TrainingFailed", "TrainingResult", "train"]

FREE_TO_CHANGE = ("workers",)
"""Fields of a recipe that may differ when a training is resumed: they don't change the outcome."""


class TrainingFailed(HwnasError):
    """The loss is no longer a number; the epoch is not kept, and never becomes the best."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is, within an epoch."""

    epoch: int
    """1 for the first."""
    epochs: int
    step: int
    """Finished updates of this epoch."""
    steps: int
    loss: float
    """Mean training loss of this epoch so far."""
    images_per_second: float
    seconds_left: float
    """Estimate for the rest of the training, at the speed of this epoch."""


class Observer(Protocol):
    """Who wants to know how a training goes."""

    def note(self, text: str) -> None:
        """Something a user should know: an unreadable image, a fall-back."""

    def step(self, progress: Progress) -> None:
        """An update is done."""

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is done and its checkpoint written."""


class _Silent:
    def note(self, text: str) -> None: ...
    def step(self, progress: Progress) -> None: ...
    def epoch(self, record: EpochRecord) -> None: ...


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A finished training."""

    out: Path
    arch: ArchSpec
    """As trained."""
    history: tuple[EpochRecord, ...]
    document: Mapping[str, Any]
    """What result.json holds."""

    @property
    def best(self) -> EpochRecord:
        """The first epoch with the highest accuracy."""
        return max(self.history, key=lambda record: record.top1_percent)


def train(
    arch: ArchSpec,
    data: Path | Images,
    recipe: Recipe,
    out: Path,
    *,
    name: str = "",
    resume: bool = False,
    init: Path | None = None,
    limit: int | None = None,
    device: str = "cpu",
    builder: Callable[[ArchSpec], nn.Module] | None = None,
    observer: Observer | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> TrainingResult:
    """Train `arch`, adapted to the images of `data`, into the folder `out`.

    `limit` keeps that many training images, equally many of each class, drawn by the recipe's seed.
    `init` is a checkpoint whose weights are taken where name and shape fit. With `resume`, goes on
    after the last finished epoch of `out`, or starts when there is none. `builder` makes the network
    (by default hwnas.nn.build).

    Raises UsageError for data, folders and options that don't fit (among them a resume that asks for
    something else than what `out` holds), TrainingFailed when the loss is not finite, FileFormatError
    when no checkpoint of `out` is whole. KeyboardInterrupt passes through at any time: the last
    finished epoch is on the disk.
    """
    observer = observer or _Silent()
    images = data if isinstance(data, Images) else open_images(data)
    if images.empty:
        observer.note(_listed("empty files left out", [(file, "0 bytes") for file in images.empty]))
    classes = images.classes()
    selected = images.split("train")
    if limit is not None:
        selected = subset(selected, limit, recipe.seed)
    evaluated = images.split(images.evaluation_split())
    arch = arch.adapted(
        resolution=recipe.image_size or None, classes=len(classes), stem_stride=recipe.stem_stride or None
    )
    start = Checkpoint(
        arch=arch,
        state_dict={},
        classes_names=classes,
        recipe=recipe,
        history=(),
        name=name,
        data={**_described_data(images, selected, evaluated), "limit": limit},
    )
    before = _prepared_folder(out, start, resume, observer)

    pin_memory = device != "cpu"
    options: dict[str, Any] = {
        "size": arch.resolution,
        "workers": worker_count(recipe),
        "pin_memory": pin_memory,
    }
    training = training_batches(images, selected, classes, recipe, **options)
    evaluation = evaluation_batches(images, evaluated, classes, recipe, **options)

    trainer = _Trainer(arch, recipe, len(training), device, builder or _default_builder(), clock, observer)
    current = start
    if before is not None:
        trainer.restore(before)
        current = dataclasses.replace(before, recipe=recipe)
    elif init is not None:
        trainer.initialise(checkpoints.load(init))
    known_bad: set[str] = set()
    with _deterministic(device):
        for number in range(current.epoch + 1, recipe.epochs + 1):
            began = clock()
            loss, lr, unreadable = trainer.epoch(number, training)
            measured = trainer.evaluate(evaluation)
            if not math.isfinite(measured.loss):
                raise _not_finite(number, "evaluation loss", measured.loss)
            bad = [item for item in (*unreadable, *measured.unreadable) if item[0] not in known_bad]
            if bad:
                known_bad.update(file for file, _ in bad)
                observer.note(_listed("unreadable images left out", bad))
            record = EpochRecord(
                number, loss, measured.top1_percent, measured.top5_percent, lr, clock() - began
            )
            is_best = all(record.top1_percent > earlier.top1_percent for earlier in current.history)
            current = trainer.checkpoint(start, (*current.history, record))
            if is_best:  # before `last`: a kill in between repeats the epoch, and with it the best
                checkpoints.save(dataclasses.replace(current, training=None), out / checkpoints.BEST)
            checkpoints.save(current, out / checkpoints.LAST)
            _write_history(out, current.history)
            observer.epoch(record)
    document = result_document(current, device=device, evaluation_split=images.evaluation_split())
    write_whole(out / "result.json", json.dumps(document, indent=2) + "\n")
    return TrainingResult(out, arch, current.history, document)


class _Trainer:
    """Network, optimiser, schedule and moving average: what an epoch changes."""

    def __init__(
        self,
        arch: ArchSpec,
        recipe: Recipe,
        steps: int,
        device: str,
        builder: Callable[[ArchSpec], nn.Module],
        clock: Callable[[], float],
        observer: Observer,
    ) -> None:
        mixing, losses, scheduling, averaging = (
            plugins.require(f"timm.{part}", extra="torch") for part in ("data", "loss", "scheduler", "utils")
        )
        self.recipe, self.steps, self.device = recipe, steps, device
        self.clock, self.observer = clock, observer
        with isolated(recipe.seed, "weights"):
            network = builder(arch)
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(
            _decay_groups(self.network, recipe.weight_decay), lr=recipe.peak_lr
        )
        warmup = round(recipe.warmup_epochs * steps)
        self.schedule = scheduling.CosineLRScheduler(
            self.optimizer,
            t_initial=max(2, recipe.epochs * steps),
            lr_min=min(recipe.min_lr, recipe.peak_lr),
            warmup_t=warmup,
            warmup_lr_init=min(recipe.warmup_lr, recipe.peak_lr) if warmup else 0.0,
            t_in_epochs=False,
        )
        self.mix = None
        if recipe.mixup_alpha or recipe.cutmix_alpha:
            self.mix = mixing.Mixup(
                mixup_alpha=recipe.mixup_alpha,
                cutmix_alpha=recipe.cutmix_alpha,
                label_smoothing=recipe.label_smoothing,
                num_classes=arch.classes,
            )
            self.criterion: nn.Module = losses.SoftTargetCrossEntropy()
        else:
            self.criterion = losses.LabelSmoothingCrossEntropy(recipe.label_smoothing)
        self.average = (
            averaging.ModelEmaV3(self.network, decay=recipe.ema_decay, use_warmup=True)
            if recipe.ema_decay
            else None
        )
        is_mixed = recipe.precision == "mixed" and device != "cpu"
        self.cast = (
            None if not is_mixed else torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        )
        self.scaler = torch.amp.GradScaler(device, enabled=self.cast is torch.float16)
        self.updates = 0

    @property
    def judged(self) -> nn.Module:
        """The network whose accuracy counts: the moving average where there is one."""
        return self.network if self.average is None else cast(nn.Module, self.average.module)

    def epoch(self, number: int, batches: Batches) -> tuple[float, float, tuple[tuple[str, str], ...]]:
        """One pass: mean loss, last learning rate, what could not be decoded."""
        self.network.train()
        check_every = 1 if self.device == "cpu" else 50  # asking a GPU for its loss makes it wait
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        steps_done, seen, began = 0, 0, self.clock()
        unreadable: list[tuple[str, str]] = []
        lr = 0.0
        self.updates = (number - 1) * self.steps
        with isolated(self.recipe.seed, "epoch", number):
            for step, batch in enumerate(batches.epoch(number), start=1):
                unreadable += batch.unreadable
                self.schedule.step_update(self.updates)
                lr = float(self.optimizer.param_groups[0]["lr"])
                self.updates += 1
                even = len(batch.labels) - len(batch.labels) % 2  # timm's Mixup pairs the images
                if even < 2:
                    continue
                total += self._update(batch.images[:even], batch.labels[:even])
                steps_done, seen = steps_done + 1, seen + even
                if step % check_every == 0 or step == self.steps:
                    mean = float(total) / steps_done
                    if not math.isfinite(mean):
                        raise _not_finite(number, "training loss", mean)
                    self._report(number, step, mean, seen, self.clock() - began)
        if not steps_done:
            raise FileFormatError(
                f"none of the {len(unreadable)} training images could be decoded, '{unreadable[0][0]}' first"
            )
        return float(total) / steps_done, lr, tuple(unreadable)

    def _update(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Forward, backward, one update of the weights; the loss."""
        images = images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        targets = labels.to(self.device, non_blocking=True)
        if self.mix is not None:
            images, targets = self.mix(images, targets)
        with torch.autocast(self.device, dtype=self.cast, enabled=self.cast is not None):
            logits = self.network(images)
        loss: torch.Tensor = self.criterion(logits.float(), targets)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if self.recipe.clip_grad_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.network, step=self.updates)
        return loss.detach()

    def _report(self, number: int, step: int, loss: float, seen: int, seconds: float) -> None:
        left = (self.recipe.epochs - number + 1) * self.steps - step
        self.observer.step(
            Progress(
                epoch=number,
                epochs=self.recipe.epochs,
                step=step,
                steps=self.steps,
                loss=loss,
                images_per_second=seen / seconds if seconds > 0 else 0.0,
                seconds_left=seconds / step * left,
            )
        )

    def evaluate(self, batches: Batches) -> Evaluation:
        """The accuracy of the judged network."""
        return evaluate(self.judged, batches, device=self.device, clock=self.clock)

    def checkpoint(self, start: Checkpoint, history: tuple[EpochRecord, ...]) -> Checkpoint:
        """The state after the last record of `history`."""
        return dataclasses.replace(
            start,
            state_dict=dict(self.judged.state_dict()),
            history=history,
            training=TrainingState(
                model=dict(self.network.state_dict()),
                optimizer=self.optimizer.state_dict(),
                updates=self.updates,
                scaler=self.scaler.state_dict(),
            ),
        )

    def restore(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint of this very training."""
        state = saved.training
        if state is None:
            raise FileFormatError(f"{saved.path}: this checkpoint holds no optimiser, it cannot be resumed")
        self.network.load_state_dict(state.model)
        self.judged.load_state_dict(saved.state_dict)
        self.optimizer.load_state_dict(state.optimizer)
        self.scaler.load_state_dict(state.scaler)
        self.updates = state.updates

    def initialise(self, given: Checkpoint) -> None:
        """Start from another training's weights, where name and shape fit."""
        own = self.network.state_dict()
        fitting = {
            name: tensor
            for name, tensor in given.state_dict.items()
            if name in own and own[name].shape == tensor.shape
        }
        if not any(tensor.is_floating_point() for tensor in fitting.values()):
            raise UsageError(
                f"{given.path}: not one of its {len(given.state_dict)} tensors fits this network"
            )
        self.network.load_state_dict(fitting, strict=False)
        if self.average is not None:
            self.average.set(self.network)
        left = sorted(set(own) - set(fitting))
        self.observer.note(
            f"{given.path}: {len(fitting)} of {len(own)} tensors taken"
            + (
                f"; freshly initialised: {', '.join(left[:5])}{' ...' if len(left) > 5 else ''}"
                if left
                else ""
            )
        )


# --- what a training is made of ----------------------------------------------------------------


def _default_builder() -> Callable[[ArchSpec], nn.Module]:
    from hwnas.nn import build

    return build


def _decay_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters with and without weight decay: kernels and matrices have it; biases, norms, scalars
    and tables of attention biases don't (as in DeiT)."""
    biases = {
        f"{path}.{name}" if path else name
        for path, module in network.named_modules()
        for name, _ in module.named_parameters(recurse=False)
        if type(module).__name__ == "AttentionBias"
    }
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        (decayed if parameter.ndim > 1 and name not in biases else plain).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]


@contextlib.contextmanager
def _deterministic(device: str) -> Iterator[None]:
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


def _not_finite(epoch: int, what: str, value: float) -> TrainingFailed:
    return TrainingFailed(
        f"the {what} of epoch {epoch} must be finite, got {value}: the epoch is not kept. "
        "Lower --lr, or set clip_grad_norm in the recipe, and start anew in another folder"
    )


def _listed(what: str, files: list[tuple[str, str]], shown: int = 5) -> str:
    some = "; ".join(f"{file} ({reason})" for file, reason in files[:shown])
    return f"{len(files)} {what}: {some}" + (f"; and {len(files) - shown} more" if len(files) > shown else "")


# --- the folder --------------------------------------------------------------------------------


def _described_data(
    images: Images, selected: tuple[Image, ...], evaluated: tuple[Image, ...]
) -> dict[str, Any]:
    """What tells one data set from another when a training is resumed."""
    digest = hashlib.sha256()
    for image in (*selected, *evaluated):
        digest.update(f"{image.name} {image.size_bytes}\n".encode())
    return {
        "name": images.path.name,
        "train_images": len(selected),
        "evaluation_images": len(evaluated),
        "digest": digest.hexdigest()[:16],
    }


def _prepared_folder(out: Path, start: Checkpoint, resume: bool, observer: Observer) -> Checkpoint | None:
    """Make the folder, or find in it what is to be resumed; refuse what doesn't fit."""
    files = (checkpoints.LAST, checkpoints.PREVIOUS)
    held = [file for file in (*files, checkpoints.BEST) if (out / file).exists()]
    if held and not resume:
        raise UsageError(f"{out} already holds a training: add --resume to go on, or choose another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        for partial in out.glob("*.partial"):
            partial.unlink()
        if not held:
            write_whole(out / "arch.yaml", start.arch.to_yaml())
            write_whole(out / "recipe.yaml", start.recipe.to_yaml())
    except OSError as error:
        raise UsageError(f"{out}: cannot be written: {error.strerror}: choose another folder") from None
    if not any(file in held for file in files):
        return None
    saved = checkpoints.resume_point(out)
    for reason in saved.skipped:
        observer.note(f"{reason}; going on from the checkpoint before it")
    if saved.path == out / checkpoints.PREVIOUS and (out / checkpoints.LAST).exists():
        (out / checkpoints.LAST).replace(out / f"{checkpoints.LAST}.damaged")  # must not become `previous`
    differences = [*_differences(saved, start)]
    if differences:
        raise UsageError(
            f"{out} holds another training; to resume, ask for the same one:\n" + "\n".join(differences)
        )
    observer.note(f"resuming after epoch {saved.epoch} of {start.recipe.epochs}")
    return saved


def _differences(saved: Checkpoint, asked: Checkpoint) -> Iterator[str]:
    if saved.arch.id != asked.arch.id:
        there, wanted = (f"{side.arch.id} ({side.name})" for side in (saved, asked))
        yield f"  architecture: {there} there, {wanted} asked for"
    if saved.classes_names != asked.classes_names:
        yield f"  classes: {', '.join(saved.classes_names)} there, {', '.join(asked.classes_names)} asked for"
    for name, value in asked.data.items():
        if name != "name" and saved.data.get(name) != value:
            yield f"  data {name}: {saved.data.get(name)} there, {value} asked for"
    recipe = saved.recipe.to_dict()
    for name, value in asked.recipe.to_dict().items():
        if name not in FREE_TO_CHANGE and recipe[name] != value:
            yield f"  {name}: {recipe[name]} there, {value} asked for"


def _write_history(out: Path, history: tuple[EpochRecord, ...]) -> None:
    lines = [json.dumps(dataclasses.asdict(record)) for record in history]
    write_whole(out / "history.jsonl", "\n".join(lines) + "\n")
