"""Predicting milliseconds: op features, calibration of op sums, filling of rows never measured."""

from hwnas.predictors.latency.calibration import Calibration, fit_calibration
from hwnas.predictors.latency.features import FEATURE_NAMES, features, op_features
from hwnas.predictors.latency.fill import FillModel, fit_fill

__all__ = [
    "FEATURE_NAMES",
    "Calibration",
    "FillModel",
    "features",
    "fit_calibration",
    "fit_fill",
    "op_features",
]
