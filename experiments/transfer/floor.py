"""What is left to learn: the error of models that saw two thirds of all rows of the held-out device.

python experiments/transfer/floor.py --data FOLDER [--sets vit_blocks nb201 hat] [--every 1]

Of ridge regression and boosted trees, both on the features (op names one-hot) and on the log milliseconds of
the known devices, the better one is told; each row is predicted by one that did not see it (3 folds).
"""

from __future__ import annotations

import argparse
import itertools
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from data import SETS, Task, scores, tasks
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV

from hwnas.predictors.latency.transfer.rows import describe_rows

FOLDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the parquet files")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=["vit_blocks", "nb201", "hat"])
    parser.add_argument("--every", type=int, default=1, help="hold out every so-many-th device only")
    arguments = parser.parse_args()
    for dataset in arguments.sets:
        found = []
        for task in itertools.islice(tasks(arguments.data, dataset), 0, None, arguments.every):
            found.append(floor(task))
            print(dataset, task.target, " ".join(f"{key} {value:.3f}" for key, value in found[-1].items()))
        means = pd.DataFrame(found).mean()
        print(dataset, "mean of", len(found), " ".join(f"{key} {means[key]:.3f}" for key in means.index))


def floor(task: Task) -> dict[str, float]:
    """Scores of the better model, each row predicted by one that did not see it."""
    rows = describe_rows(task.features, task.sources)
    columns = np.column_stack([rows.logs, rows.shape, rows.codes])
    truth = task.truth.to_numpy(float)
    above = np.log(truth) - rows.typical
    fold = np.random.default_rng(0).permutation(len(truth)) % FOLDS
    results = []
    for model in (RidgeCV(np.logspace(-2, 4, 13)), HistGradientBoostingRegressor(max_iter=150)):
        predicted = np.empty(len(truth))
        for left in range(FOLDS):
            model.fit(columns[fold != left], above[fold != left])
            predicted[fold == left] = model.predict(columns[fold == left])
        results.append(scores(truth, np.exp(predicted + rows.typical)))
    return min(results, key=lambda result: result["mape"])


if __name__ == "__main__":
    main()
