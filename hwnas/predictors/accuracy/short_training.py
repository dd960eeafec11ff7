"""A few epochs on some of the user's images, ended early where others of the same size learn faster.

`short-training:DATA` trains each network that is asked for, for up to `epochs` epochs, and gives the
accuracy after them: measured where the training was finished, extrapolated where it was not. With
`journal=FILE` the curves are kept, and no network is trained twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas.estimate import Estimate
from hwnas.io.jsonl import Kind, append_shared, read_log
from hwnas.predictors.accuracy._argument import parsed
from hwnas.predictors.accuracy._samples import Samples, open_samples
from hwnas.space.arch import ArchSpec
from hwnas.space.ops import count_macs, lower

if TYPE_CHECKING:
    from hwnas.data.pixels import Pixels

__all__ = ["CURVES", "Settings", "ShortTraining", "estimator"]

CURVES = Kind(
    "hwnas learning curves",
    noun="a learning curve",
    fix="Delete that line, or name another journal",
    old_keys=("key", "id", "curve"),
)
MOST_EPOCHS = 10_000
OPTIONS = {
    "epochs": 4,
    "images": 2000,
    "test": 1000,
    "batch": 64,
    "seed": 1,
    "side": None,
    "stem": None,
    "journal": "",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """All that decides an accuracy but the network and the images."""

    epochs: int
    images: int
    """Training images, equally many of each class."""
    test: int
    """Images that accuracy is measured on."""
    batch: int
    seed: int


class ShortTraining:
    """Estimates accuracy by training; made by `estimator`."""

    unit = "%"

    def __init__(self, samples: Samples, settings: Settings, journal: Path | None = None) -> None:
        """Raises FileFormatError when the journal is damaged."""
        from hwnas.predictors.accuracy._halving import Halving

        self._samples, self._settings, self._journal = samples, settings, journal
        self._curves: dict[str, tuple[float, ...]] = {}
        self._halving = Halving(epochs=settings.epochs, test_images=settings.test)
        for macs, network, curve in self._read():
            self._halving.restored(macs, curve)
            self._curves[network] = curve

    def predict(self, arch: ArchSpec) -> Estimate:
        """Top-1 after all epochs, in percent; trains the network unless it was trained already.

        A training that is ended early says less: its `std` is larger.
        """
        fitted = self._samples.adapted(arch)
        if fitted.id not in self._curves:
            self._curves[fitted.id] = self._trained(fitted)
        return self._halving.estimate(self._curves[fitted.id])

    def estimates(self, archs: Iterable[ArchSpec]) -> list[Estimate]:
        """Trains all, then estimates each in the light of all curves; in the order given."""
        every = list(archs)
        for arch in every:
            self.predict(arch)
        return [self.predict(arch) for arch in every]

    def _trained(self, fitted: ArchSpec) -> tuple[float, ...]:
        from hwnas.predictors.accuracy._brief_training import BriefTraining

        settings = self._settings
        training = BriefTraining(
            fitted,
            *self._pixels(fitted.resolution),
            epochs=settings.epochs,
            batch_size=settings.batch,
            seed=settings.seed,
        )
        macs = count_macs(lower(fitted))
        trial = self._halving.begun(macs)
        curve: list[float] = []
        while len(curve) < settings.epochs:
            curve.append(training.epoch())
            trial.report(curve[-1], len(curve))
            if len(curve) < settings.epochs and trial.should_prune():
                break
        self._halving.ended(macs, trial, curve)
        self._keep(fitted.id, macs, curve)
        return tuple(curve)

    def _pixels(self, side: int) -> tuple[Pixels, Pixels]:
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        split = self._samples.images.evaluation_split()
        train = self._samples.pixels("train", self._settings.images, side)
        test = self._samples.pixels(split, self._settings.test, side)
        return train.to(device), test.to(device)

    @property
    def _key(self) -> str:
        """What was asked of the curves; those of another question in the same journal are not ours."""
        return f"{self._settings} {self._samples.digest}"

    def _read(self) -> list[tuple[int, str, tuple[float, ...]]]:
        """(MACs, id, curve) of the journal's curves that answer this question, in their order."""
        if self._journal is None or not self._journal.exists():
            return []
        found = []
        for number, row in read_log(self._journal, CURVES).numbered():
            try:
                key, macs, curve = row["key"], int(row["macs"]), tuple(map(float, row["curve"]))
                if (
                    macs <= 0
                    or not 0 < len(curve) <= MOST_EPOCHS
                    or not all(0 <= top1 <= 100 for top1 in curve)
                ):
                    raise ValueError(f"macs {macs}, curve {curve[:4]}")
                if key == self._key:
                    found.append((macs, str(row["id"]), curve))
            except (ValueError, KeyError, TypeError, OverflowError) as error:
                raise CURVES.damaged(self._journal, number, repr(error)) from None
        return found

    def _keep(self, network: str, macs: int, curve: Sequence[float]) -> None:
        if self._journal is None:
            return
        row = {"key": self._key, "id": network, "macs": macs, "curve": list(curve)}
        append_shared(self._journal, CURVES, [row])


def estimator(argument: str | None = None) -> ShortTraining:
    """The estimator for `DATA` and OPTIONS: `DATA,epochs=4,images=2000,side=32,stem=4`.

    Raises UsageError for anything else, and for data that is none.
    """
    data, options = parsed("short-training", argument, OPTIONS)
    samples = open_samples("short-training", data, side=options["side"], stem_stride=options["stem"])
    settings = Settings(*(options[name] for name in Settings.__dataclass_fields__))
    return ShortTraining(samples, settings, Path(options["journal"]) if options["journal"] else None)
