"""Measuring: what is timed on a device, in which order, and how samples become a latency table."""
