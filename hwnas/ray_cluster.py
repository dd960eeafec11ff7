"""Joining a Ray cluster, or starting Ray on this machine."""

from __future__ import annotations

import signal
import threading
from typing import Any

from hwnas.errors import UsageError

__all__ = ["connect"]


def connect(ray: Any, address: str | None, *, cores: int | None = None) -> None:
    """Connects this process to the cluster at `address` ("auto": the one of this machine).

    None starts Ray here, with so many `cores` (all of them by default). Raises UsageError when no
    cluster answers.
    """
    local: dict[str, Any] = {"num_cpus": cores, "include_dashboard": False} if address is None else {}
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **local)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"a Ray cluster must answer at '{address}', and none does ({str(error).splitlines()[0]}). "
            "Start one with 'ray start --head', or leave --address out to use this machine"
        ) from None
    if threading.current_thread() is threading.main_thread():  # Ray takes the signal for itself
        signal.signal(signal.SIGTERM, on_sigterm)
