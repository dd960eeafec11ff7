"""Dashboards that a training reports to: `--log-to tensorboard:FOLDER`, `mlflow:URI`, `wandb:PROJECT`.

A dashboard is a file of this folder, or an entry point in `hwnas.train.loggers`: a module with
`logger(argument, name, settings) -> MetricsLogger`. It imports its package when it is called, with
`hwnas.plugins.require`, so that a missing package names the extra that brings it.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

from hwnas import plugins
from hwnas.errors import UsageError, did_you_mean
from hwnas.foreign import guarded
from hwnas.train.callbacks import Callback, FinishedEpoch, NullCallback, Progress
from hwnas.train.history import scores_of

__all__ = ["MetricsLogger", "logged"]

FOLDER = "train/loggers"


class MetricsLogger(Protocol):
    """One run of a dashboard."""

    def log(self, values: Mapping[str, float], update: int) -> None:
        """Numbers by name, after so many updates of the weights."""

    def close(self, *, finished: bool) -> None:
        """The training has ended; `finished` is False for one that was interrupted or failed."""


@contextlib.contextmanager
def logged(
    callback: Callback | None, names: Sequence[str], *, name: str, settings: Mapping[str, Any]
) -> Iterator[Callback]:
    """The callback, which also reports to the dashboards in `names`, such as "tensorboard:logs".

    `name` is the training's, `settings` its recipe. Raises UsageError for an unknown dashboard or one
    that cannot be opened, MissingPackageError without its package. A dashboard that fails later is left out
    with a note: it never stops a training.
    """
    inner = callback if callback is not None else NullCallback()
    if not names:
        yield inner
        return
    reporting = _Reporting(inner, {one: _opened(one, name, settings) for one in names})
    finished = False
    try:
        yield reporting
        finished = True
    finally:
        reporting.close(finished=finished)


def _opened(requested: str, name: str, settings: Mapping[str, Any]) -> MetricsLogger:
    kind, _, argument = requested.partition(":")
    if kind not in (known := plugins.names(FOLDER)):
        raise UsageError(
            f"--log-to: no dashboard '{kind}'.{did_you_mean(kind, known)} Known: {', '.join(known)}"
        )
    module = plugins.load(FOLDER, kind)
    if not argument:
        raise UsageError(f"--log-to {kind} needs {module.ARGUMENT}, e.g. {module.EXAMPLE}")
    with guarded(f"--log-to {requested} cannot be opened"):
        logger: MetricsLogger = module.logger(argument, name, settings)
    return logger


class _Reporting:
    """A callback that passes everything on, and its numbers to dashboards."""

    def __init__(self, inner: Callback, loggers: dict[str, MetricsLogger]) -> None:
        self._inner, self._loggers, self._update = inner, loggers, 0

    def note(self, text: str) -> None:
        self._inner.note(text)

    def step(self, progress: Progress) -> None:
        self._update = (progress.epoch - 1) * progress.steps + progress.step
        self._inner.step(progress)
        self._log({"train/loss": progress.loss, "train/images_per_second": progress.images_per_second})

    def epoch(self, record: FinishedEpoch) -> None:
        self._inner.epoch(record)
        numbers = dataclasses.asdict(cast(Any, record))
        self._log(
            {
                "epoch": record.epoch,
                "epoch/loss": record.loss,
                "epoch/lr": record.lr,
                "epoch/seconds": record.seconds,
                **{f"val/{score}": value for score, value in scores_of(numbers).items()},
            }
        )

    def close(self, *, finished: bool) -> None:
        for one, logger in list(self._loggers.items()):
            self._tried(one, lambda logger=logger: logger.close(finished=finished))

    def _log(self, values: Mapping[str, float]) -> None:
        for one, logger in list(self._loggers.items()):
            self._tried(one, lambda logger=logger: logger.log(values, self._update))

    def _tried(self, one: str, action: Any) -> None:
        try:
            with guarded(f"--log-to {one} failed"):
                action()
        except UsageError as error:
            del self._loggers[one]
            self._inner.note(f"{error}. The training continues without it")
