"""What transfer is compared with: each predicts all rows from the N measured ones.

`blend` is the one described with the data: linear op cost, best single known device, ridge and a Gaussian
process on the known devices' log latencies plus shape features, with MACs and activation counts as extra
devices; members are weighted by their own leave-out error.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
from data import Task
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import RidgeCV

Floats = NDArray[np.float64]
Member = Callable[[Floats, Floats], Callable[[Floats], Floats]]


class Baselines:
    """All baselines of one task; `predict(name, rows)` gives milliseconds for every row of the task."""

    names = ("macs", "additive", "best_single", "ridge", "gp", "forest", "blend")

    def __init__(self, task: Task) -> None:
        from scipy.optimize import nnls

        self._nnls = nnls
        self.truth = task.truth.to_numpy(float)
        logs = np.log(task.sources.where(task.sources > 0)).to_numpy(float)
        logs = _filled(logs)
        features = task.features.to_numpy(float)
        features = np.where(np.isfinite(features), features, 0.0)
        extra = [name for name in (task.macs, "activations") if name in task.features]
        self.devices = np.column_stack(
            [logs, *(np.log(task.features[name].to_numpy(float)) for name in extra)]
        )
        shape = np.sign(features) * np.log1p(np.abs(features))
        self.joint = _standard(np.column_stack([self.devices, shape]))
        self.additive = np.column_stack([task.features[list(task.additive)].fillna(0.0).to_numpy(float),
                                         np.ones(len(self.truth))])  # fmt: skip
        self.macs = task.features[task.macs].to_numpy(float) if task.macs else None

    def predict(self, name: str, rows: NDArray[np.int_]) -> Floats | None:
        """Milliseconds for every row, or None where the baseline does not apply."""
        return getattr(self, f"_{name}")(rows, self.truth[rows])

    def _macs(self, rows: NDArray[np.int_], y: Floats) -> Floats | None:
        return None if self.macs is None else self.macs * np.median(y / self.macs[rows])

    def _additive(self, rows: NDArray[np.int_], y: Floats) -> Floats | None:
        if self.additive.shape[1] == 1:
            return None
        scale = self.additive.max(axis=0)
        weights, _ = self._nnls(self.additive[rows] / scale / y[:, None], np.ones(len(y)))
        return self.additive / scale @ weights + 1e-9

    def _best_single(self, rows: NDArray[np.int_], y: Floats) -> Floats | None:
        if self.devices.shape[1] == 0:
            return None
        gaps = np.log(y)[:, None] - self.devices[rows]
        offset = np.median(gaps, axis=0)
        best = np.abs(gaps - offset).mean(axis=0).argmin()
        return np.exp(self.devices[:, best] + offset[best])

    def _ridge(self, rows: NDArray[np.int_], y: Floats) -> Floats | None:
        if self.joint.shape[1] == 0:
            return None
        model = RidgeCV(np.logspace(-3, 3, 13)).fit(self.joint[rows], np.log(y))
        return np.exp(model.predict(self.joint))

    def _gp(self, rows: NDArray[np.int_], y: Floats) -> Floats | None:
        if self.joint.shape[1] == 0:
            return None
        kernel = ConstantKernel(1.0, (1e-3, 1e3)) * RBF(3.0, (0.1, 1e3)) + WhiteKernel(1e-3, (1e-6, 1.0))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
            model.fit(self.joint[rows], np.log(y))
        return np.exp(model.predict(self.joint))

    def _forest(self, rows: NDArray[np.int_], y: Floats) -> Floats | None:
        if self.joint.shape[1] == 0:
            return None
        model = RandomForestRegressor(100, random_state=0, n_jobs=1).fit(self.joint[rows], np.log(y))
        return np.exp(model.predict(self.joint))

    def _blend(self, rows: NDArray[np.int_], y: Floats) -> Floats | None:
        members, errors = [], []
        folds = np.random.default_rng(0).permutation(len(rows)) % min(5, len(rows))
        for name in ("additive", "best_single", "ridge", "gp"):
            whole = self.predict(name, rows)
            if whole is None:
                continue
            gaps = []
            for fold in range(folds.max() + 1):
                part = getattr(self, f"_{name}")(rows[folds != fold], y[folds != fold])
                gaps.extend(np.log(np.maximum(part[rows[folds == fold]], 1e-9) / y[folds == fold]))
            members.append(np.log(np.maximum(whole, 1e-9)))
            errors.append(np.mean(np.square(gaps)))
        if not members:
            return None
        weights = 1 / (np.array(errors) + 1e-9) ** 2
        return np.exp(np.average(members, axis=0, weights=weights))


def _filled(logs: Floats) -> Floats:
    """Gaps filled by the row's and the column's mean."""
    if not np.isnan(logs).any():
        return logs
    frame = pd.DataFrame(logs)
    columns = frame.mean()
    rows = (frame - columns).mean(axis=1).fillna(0.0)
    for _ in range(5):
        columns = frame.sub(rows, axis=0).mean()
        rows = (frame - columns).mean(axis=1).fillna(0.0)
    return frame.where(frame.notna(), rows.to_numpy()[:, None] + columns.to_numpy()[None, :]).to_numpy()


def _standard(table: Floats) -> Floats:
    spread = table.std(axis=0)
    return (table[:, spread > 1e-12] - table[:, spread > 1e-12].mean(axis=0)) / spread[spread > 1e-12]
