"""The earlier import path of latency tables, kept for scripts: `from hwnas.latency import LatencyTable`."""

from hwnas.predictors.latency import DeviceProfile, LatencyTable, device_names, find_table

__all__ = ["DeviceProfile", "LatencyTable", "device_names", "find_table"]
