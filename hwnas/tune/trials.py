"""Trials: the trainings of a config, run by Ray Tune on this machine or a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import hwnas
from hwnas import plugins
from hwnas.errors import UsageError
from hwnas.ray_cluster import connect
from hwnas.search.execution.processes import DEATHS_ALLOWED
from hwnas.train.history import read_history
from hwnas.tune.config import TuneConfig

__all__ = ["Trials"]


class Trials:
    """Up to `workers` trainings at once, each with `gpus` GPUs and its share of the cluster's cores."""

    def __init__(self, *, workers: int, address: str | None, gpus: float) -> None:
        self._ray: Any = plugins.require("ray", extra="ray")
        self._tune: Any = plugins.require("ray.tune", extra="ray")
        self._ours = not self._ray.is_initialized()
        if self._ours:
            connect(self._ray, address)
        there = self._ray.cluster_resources()
        if gpus > there.get("GPU", 0):
            self.close()
            raise UsageError(
                f"--gpus must be at most what Ray has, got {gpus:g} of {there.get('GPU', 0):g}: leave it out "
                "to train on CPUs"
            )
        largest = max(node["Resources"].get("CPU", 1) for node in self._ray.nodes() if node["Alive"])
        share = min(there.get("CPU", 1) // workers, largest)  # a training is on one machine
        self._workers = workers
        self._each = {"cpu": max(1, int(share)), "gpu": gpus}

    def run(
        self,
        config: TuneConfig,
        *,
        done: set[str],
        fallen_behind: Callable[[str], None],
        finished: Callable[[str], None],
        say: Callable[[str], None],
    ) -> dict[str, str]:
        """Trains what is not in `done`; why trainings failed, by name.

        What is `done`, and what earlier runs did of the others, takes its place in the halving again.
        """
        from hwnas.tune.size_bands import SizeBandScheduler

        tune, epochs = self._tune, config.recipe.epochs

        def on_epoch(name: str, result: Mapping[str, Any]) -> None:
            if not result["again"]:
                say(f"{name}: epoch {result['epoch']} of {epochs}: top-1 {result['top1_percent']:.2f} %")

        def on_stopped(name: str) -> None:
            if name not in done:
                fallen_behind(name)

        os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C is the caller's, and no end like any other
        os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"  # data is found where the user stands
        os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # which writes to stdout however quiet it is asked to be
        trainable = tune.with_parameters(_train, config=config, done=done, version=hwnas.__version__)
        results = tune.Tuner(
            tune.with_resources(trainable, self._each),
            param_space={"network": tune.grid_search(list(config.networks))},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=self._workers,
                reuse_actors=True,  # a worker loads torch once
                scheduler=SizeBandScheduler(
                    config.bands(),
                    epochs=epochs,
                    first_epochs=config.first_epochs,
                    keep_one_in=config.keep_one_in,
                    on_epoch=on_epoch,
                    on_stopped=on_stopped,
                ),
            ),
            run_config=tune.RunConfig(
                name="ray",
                storage_path=str(config.out.resolve()),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=DEATHS_ALLOWED - 1),
            ),
        ).fit()
        errors = {}
        for name, result in zip(config.networks, results, strict=True):
            if result.error is not None:
                errors[name] = str(result.error).strip().splitlines()[-1]
                say(f"{name}: {errors[name]}")
            elif (config.folder(name) / "result.json").exists():
                finished(name)
        return errors

    def close(self) -> None:
        """Ends Ray if it was started here."""
        if self._ours:
            self._ray.shutdown()


class _Reports:
    """The callback of a training that tells Ray Tune of each epoch, and is ended there if need be."""

    def __init__(self, report: Callable[[dict[str, Any]], None]) -> None:
        self._report = report

    def note(self, text: str) -> None: ...
    def step(self, progress: Any) -> None: ...

    def epoch(self, record: Any) -> None:
        self._report({"epoch": record.epoch, "top1_percent": record.top1_percent, "again": False})


def _train(chosen: Mapping[str, Any], *, config: TuneConfig, done: set[str], version: str) -> None:
    """A trial: one network's training, from wherever an earlier trial of it came to."""
    from ray import tune

    name = chosen["network"]
    if version != hwnas.__version__:
        raise UsageError(
            f"all machines must run one version of hwnas: the one that started has {version}, a worker "
            f"{hwnas.__version__}. Install {version} there"
        )
    for epoch in read_history(config.folder(name)):
        tune.report({"epoch": epoch["epoch"], "top1_percent": epoch["top1_percent"], "again": True})
    if name in done:
        return
    import torch

    from hwnas.train.training import train

    train(
        config.networks[name],
        Path(config.data),
        config.recipe,
        config.folder(name),
        name=name,
        promise=config.promises.get(name),
        resume=True,
        init=config.init,
        limit=config.limit,
        device="cuda" if torch.cuda.is_available() else "cpu",
        callback=_Reports(tune.report),
    )
