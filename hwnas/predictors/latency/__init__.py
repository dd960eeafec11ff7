"""Latency prediction: tables of op latencies per device, their calibration, and what they predict."""

from hwnas.predictors.latency.calibration import Calibration, fit_calibration
from hwnas.predictors.latency.features import FEATURE_NAMES, features, op_features
from hwnas.predictors.latency.fill import FillModel, fit_fill
from hwnas.predictors.latency.heldout import HeldOut, HeldOutNetwork
from hwnas.predictors.latency.locate import device_names, find_table, table_folders
from hwnas.predictors.latency.profile import DeviceProfile
from hwnas.predictors.latency.table import LatencyTable
from hwnas.predictors.latency.table_content import Coefficients, Row
from hwnas.predictors.latency.table_file import TableSummary, read_summary

__all__ = [
    "FEATURE_NAMES",
    "Calibration",
    "Coefficients",
    "DeviceProfile",
    "FillModel",
    "HeldOut",
    "HeldOutNetwork",
    "LatencyTable",
    "Row",
    "TableSummary",
    "device_names",
    "features",
    "find_table",
    "fit_calibration",
    "fit_fill",
    "op_features",
    "read_summary",
    "table_folders",
]
