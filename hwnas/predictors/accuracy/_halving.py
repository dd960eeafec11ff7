"""Which short trainings are worth their next epoch: Optuna's successive halving, within a size.

Small networks learn less than large ones and are wanted all the same, where latency counts. So a
network competes with those of its own band of MACs alone, each band an Optuna study with an
asynchronous `SuccessiveHalvingPruner` (Li et al., MLSys 2020): candidates come one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

import optuna

from hwnas.estimate import Estimate
from hwnas.space.size import band

__all__ = ["Halving"]

REDUCTION = 2
"""One in so many goes on at each rung: after 1, 2, 4, ... epochs."""


class Halving:
    """The learning curves so far, and what they say of a network that was ended early."""

    def __init__(self, *, epochs: int, test_images: int) -> None:
        """`test_images` that each accuracy was measured on tells its sampling noise."""
        self.epochs = epochs
        self._test_images = test_images
        self._studies: dict[int, optuna.Study] = {}
        self._finished: list[Sequence[float]] = []

    def begun(self, macs: int) -> optuna.Trial:
        """A trial to report accuracies to, among networks of this size."""
        return self._study(macs).ask()

    def ended(self, macs: int, trial: optuna.Trial, curve: Sequence[float]) -> None:
        """Takes note of a trial's end, after all epochs or before."""
        if len(curve) == self.epochs:
            self._study(macs).tell(trial, curve[-1])
            self._finished.append(tuple(curve))
        else:
            self._study(macs).tell(trial, state=optuna.trial.TrialState.PRUNED)

    def restored(self, macs: int, curve: Sequence[float]) -> None:
        """Takes note of a curve from an earlier process, as if it had just been trained."""
        trial = self.begun(macs)
        for epoch, top1_percent in enumerate(curve, start=1):
            trial.report(top1_percent, epoch)
            trial.should_prune()  # the pruner notes in the trial which rung it has reached
        self.ended(macs, trial, curve)

    def estimate(self, curve: Sequence[float]) -> Estimate:
        """The accuracy after all epochs, in percent, of a network with this curve.

        One that was ended early is taken to gain what finished ones gained from its epoch on, on
        average; `std` is how much these gains differ. For a finished one, `std` is what the last
        epoch's gains differ, and the sampling noise of the test images at least.
        """
        share = min(max(curve[-1] / 100, 0.01), 0.99)
        sampling = 100 * math.sqrt(share * (1 - share) / self._test_images)
        if len(curve) == self.epochs:
            _, spread = self._gain(self.epochs - 1)
            # A gain is a difference of two accuracies, with the noise of both.
            return Estimate(curve[-1], max(sampling, spread / math.sqrt(2)), unit="%")
        gain, spread = self._gain(len(curve))
        return Estimate(min(curve[-1] + gain, 100.0), math.hypot(sampling, spread), unit="%")

    def _gain(self, epoch: int) -> tuple[float, float]:
        """Mean gain from that epoch to the last, and how it differs; the gain itself where one is known."""
        gains = [curve[-1] - curve[epoch - 1] for curve in self._finished if epoch >= 1]
        if not gains:
            return 0.0, 0.0
        return fmean(gains), stdev(gains) if len(gains) > 1 else abs(gains[0])

    def _study(self, macs: int) -> optuna.Study:
        place = band(macs)
        if place not in self._studies:
            before = optuna.logging.get_verbosity()
            optuna.logging.set_verbosity(optuna.logging.WARNING)  # it announces each study
            try:
                self._studies[place] = optuna.create_study(
                    direction="maximize",
                    sampler=optuna.samplers.RandomSampler(seed=0),
                    pruner=optuna.pruners.SuccessiveHalvingPruner(
                        min_resource=1, reduction_factor=REDUCTION, min_early_stopping_rate=0
                    ),
                )
            finally:
                optuna.logging.set_verbosity(before)
        return self._studies[place]
