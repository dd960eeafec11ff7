"""`--log-to mlflow:URI`: a run of an MLflow tracking server, or of a local folder (`mlflow:runs`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hwnas import plugins

ARGUMENT, EXAMPLE = "a tracking URI", "mlflow:http://localhost:5000"
EXPERIMENT = "hwnas"


class MLflow:
    """Logs metrics, and the recipe as parameters."""

    def __init__(self, uri: str, name: str, settings: Mapping[str, Any]) -> None:
        self._mlflow: Any = plugins.require("mlflow", extra="mlflow")
        self._mlflow.set_tracking_uri(uri)
        self._mlflow.set_experiment(EXPERIMENT)
        self._mlflow.start_run(run_name=name)
        self._mlflow.log_params(dict(settings))

    def log(self, values: Mapping[str, float], update: int) -> None:
        self._mlflow.log_metrics(dict(values), step=update)

    def close(self, *, finished: bool) -> None:
        self._mlflow.end_run("FINISHED" if finished else "FAILED")


def logger(argument: str, name: str, settings: Mapping[str, Any]) -> MLflow:
    """A run called NAME in the experiment `hwnas` of the tracking server or store."""
    return MLflow(argument, name, settings)
