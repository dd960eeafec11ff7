"""The agent: reads commands on stdin, times models, writes results on stdout, ends with its input.

Commands are frames (see protocol.py): `hello` answers with the environment and the runtime;
`companion` carries the model that others are timed beside, or nothing: then the last one is loaded
afresh; `measure` carries a model as payload and answers with the raw samples; `quit` ends. A cell
that fails answers with the failure, and the next one goes on.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any, BinaryIO

from hwnas.board import energy, environment, guards, protocol, timing, watch

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
    companion = Companion(runtime)
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
            elif name == "companion":
                answer = companion.load(command, payload)
            elif name == "measure":
                answer = _measure(command, payload, runtime, companion, clock)
            else:
                answer = {"error": f"unknown command {name!r}", "type": "ValueError"}
        except Exception as error:  # a cell's failure is an answer, whatever the runtime raised
            answer = {"error": str(error) or type(error).__name__, "type": type(error).__name__}
        protocol.write_frame(results, dict(answer, id=command.get("id")))


class Companion:
    """The model that others are timed beside, with one image whatever their batch is."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self._model = b""
        self._session: Any = None

    def load(self, command: dict[str, Any], payload: bytes) -> dict[str, Any]:
        """Loads the model in the payload, or once more the last one: its place in memory is new then."""
        self._model = payload or self._model
        if not self._model:
            raise ValueError("there is no companion to load: send its model first")
        if self._session is not None:
            self._session.close()
        self._session = None
        self._session = self._runtime.prepare(self._model, **_settings(command, batch=1))
        return {"loaded": len(self._model)}

    def run(self) -> object:
        """Runs it once. Raises ValueError when none was sent."""
        if self._session is None:
            raise ValueError("nothing can be timed beside a companion that was not sent")
        return self._session.run()


def _settings(command: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """What `prepare` needs to know beside the model."""
    names = ("threads", "batch", "precision", "provider")
    return dict({name: command[name] for name in names if command.get(name) is not None}, **changed)


def _measure(
    command: dict[str, Any],
    payload: bytes,
    runtime: Any,
    companion: Companion,
    clock: Callable[[], int],
) -> dict[str, Any]:
    rules = timing.Rules(**command["rules"])
    session = runtime.prepare(payload, **_settings(command))
    beside = None
    try:
        guard = guards.Guard()
        with guard:
            if command.get("beside"):
                beside = timing.measure_beside(session.run, companion.run, rules=rules, clock=clock)
                samples = beside.samples
            else:
                samples = timing.measure(session.run, rules=rules, clock=clock)
        spent = energy.measured(session.run, seconds=rules.energy_s, clock=clock) if rules.energy_s else {}
    finally:
        session.close()
    answer = {
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
    answer.update(spent)
    if beside is not None:
        answer["companion_ns"] = [round(value) for value in beside.companion_ns]
        answer["cold_ns"] = [round(value) for value in beside.cold_ns]
        answer["companion_ms"] = timing.median(beside.companion_ns) / 1e6
        answer["reach"] = beside.reach
    return answer


def load_runtime(path: str) -> ModuleType:
    """The runtime plug-in in the file `path`, without importing what is around it."""
    spec = importlib.util.spec_from_file_location("hwnas_runtime", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"no runtime plug-in can be loaded from '{path}'")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main(runtime_file: str, lease: str = "") -> None:
    """Serves stdin and stdout; what libraries print goes to stderr instead.

    Ends with its input, in the middle of a model too, and when nobody holds the `lease` any more.
    """
    watch.end_with_input(0)
    if lease:
        watch.end_with_lease(lease)
    commands = os.fdopen(os.dup(0), "rb")
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(commands, results, runtime=load_runtime(runtime_file))
