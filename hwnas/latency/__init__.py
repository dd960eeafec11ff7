"""Latency tables: milliseconds of ops on a board, read, found, checked, built and predicted from."""

from hwnas.latency.heldout import HeldOut, HeldOutNetwork
from hwnas.latency.locate import device_names, find_table, table_folders
from hwnas.latency.profile import DeviceProfile
from hwnas.latency.table import Coefficients, LatencyTable, Row
from hwnas.latency.table_file import TableSummary, read_summary

__all__ = [
    "Coefficients",
    "DeviceProfile",
    "HeldOut",
    "HeldOutNetwork",
    "LatencyTable",
    "Row",
    "TableSummary",
    "device_names",
    "find_table",
    "read_summary",
    "table_folders",
]
