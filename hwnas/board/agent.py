"""The agent: reads commands on stdin, times models, writes results on stdout, ends with its input.

Commands are frames (see protocol.py): `hello` answers with the environment and the runtime;
`measure` carries a model as payload and answers with the raw samples; `quit` ends. A cell that
fails answers with the failure, and the next one goes on.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any, BinaryIO

from hwnas.board import environment, guards, protocol, timing

__all__ = ["load_runtime", "main", "serve"]

VERSION = 1


def serve(
    commands: BinaryIO,
    results: BinaryIO,
    *,
    runtime: Any,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> None:
    """Answers each command with one frame until the input ends or says `quit`."""
    while True:
        frame = protocol.read_frame(commands)
        if frame is None:
            return
        command, payload = frame
        name = command.get("command")
        if name == "quit":
            return
        try:
            if name == "hello":
                answer = {
                    "agent": VERSION,
                    "environment": environment.describe(),
                    "runtime": runtime.probe(),
                }
            elif name == "measure":
                answer = _measure(command, payload, runtime, clock)
            else:
                answer = {"error": f"unknown command {name!r}", "type": "ValueError"}
        except Exception as error:  # a cell's failure is an answer, whatever the runtime raised
            answer = {"error": str(error) or type(error).__name__, "type": type(error).__name__}
        protocol.write_frame(results, dict(answer, id=command.get("id")))


def _measure(
    command: dict[str, Any], payload: bytes, runtime: Any, clock: Callable[[], int]
) -> dict[str, Any]:
    rules = timing.Rules(**command["rules"])
    session = runtime.prepare(
        payload,
        threads=command["threads"],
        batch=command["batch"],
        precision=command["precision"],
    )
    try:
        guard = guards.Guard()
        with guard:
            samples = timing.measure(session.run, rules=rules, clock=clock)
    finally:
        session.close()
    return {
        "samples_ns": [round(value) for value in samples.samples_ns],
        "warmup_ns": [round(value) for value in samples.warmup_ns],
        "runs_per_repeat": samples.runs_per_repeat,
        "steady": samples.steady,
        "cpu_share": round(guard.cpu_share, 4),
        "throttled": list(guard.throttled),
        "median_ms": samples.median_ms,
        "low_ms": samples.low_ms,
        "high_ms": samples.high_ms,
        "p95_ms": samples.p95_ms,
    }


def load_runtime(path: str) -> ModuleType:
    """The runtime plug-in in the file `path`, without importing what is around it."""
    spec = importlib.util.spec_from_file_location("hwnas_runtime", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"no runtime plug-in can be loaded from '{path}'")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main(runtime_file: str) -> None:
    """Serves stdin and stdout; what libraries print goes to stderr instead."""
    commands = os.fdopen(os.dup(0), "rb")
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(commands, results, runtime=load_runtime(runtime_file))
