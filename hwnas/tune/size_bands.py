"""SizeBandScheduler: Ray Tune's asynchronous successive halving, of each size by itself.

Small networks learn less than large ones and are wanted all the same, where latency counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

__all__ = ["SizeBandScheduler"]


class SizeBandScheduler(FIFOScheduler):
    """A scheduler for trials whose `config["network"]` names a network and that report `epoch` and
    `top1_percent` (ASHA: Li et al., MLSys 2020)."""

    def __init__(
        self,
        bands: Mapping[str, int],
        *,
        epochs: int,
        first_epochs: int,
        keep_one_in: int,
        on_epoch: Callable[[str, Mapping[str, Any]], None],
        on_stopped: Callable[[str], None],
    ) -> None:
        """`bands` tells each network's size; `on_epoch` and `on_stopped` are told of each by name."""
        super().__init__()
        self._bands, self._on_epoch, self._on_stopped = bands, on_epoch, on_stopped
        self._epochs = epochs
        self._halving = {
            band: ASHAScheduler(
                time_attr="epoch",
                metric="top1_percent",
                mode="max",
                max_t=epochs,
                grace_period=first_epochs,
                reduction_factor=keep_one_in,
                stop_last_trials=False,  # a training ends itself, and says what it came to
            )
            for band in set(bands.values())
        }

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._of(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        name = trial.config["network"]
        self._on_epoch(name, result)
        if result["epoch"] >= self._epochs:  # nothing is left to be ended
            return str(TrialScheduler.CONTINUE)
        decision: str = self._of(trial).on_trial_result(tune_controller, trial, result)
        if decision == TrialScheduler.STOP:
            self._on_stopped(name)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._of(trial).on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self._of(trial).on_trial_remove(tune_controller, trial)

    def _of(self, trial: Any) -> Any:
        return self._halving[self._bands[trial.config["network"]]]
