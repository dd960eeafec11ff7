"""The agent and its frames: any noise, any failure of a cell, the end of the input."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

import hwnas.board
import hwnas.runtimes
from hwnas.board import environment, guards, protocol
from hwnas.board.agent import load_runtime, serve

ROOT = Path(hwnas.board.__file__).parents[2]
RULES = {"warmup_runs": 3, "warmup_s": 0.0, "warmup_limit_s": 0.1, "repeats": 4, "limit_s": 0.05}


class FakeRuntime:
    """Runs anything but b"broken"; counts sessions that are open."""

    def __init__(self) -> None:
        self.open = 0
        self.prepared: list[tuple[bytes, int]] = []

    def probe(self) -> dict[str, Any]:
        return {"version": "9", "provider": "cpu", "providers": ["cpu"], "missing": None}

    def prepare(
        self, model: bytes, *, threads: int, batch: int, precision: str, provider: str | None = None
    ) -> Any:
        if model == b"broken":
            raise RuntimeError("no kernel for this node")
        runtime = self
        runtime.open += 1
        runtime.prepared.append((model, batch))

        class Session:
            def run(self) -> None:
                if model == b"breaks later":
                    raise MemoryError("out of memory")

            def close(self) -> None:
                runtime.open -= 1

        return Session()


def frames(*commands: tuple[dict[str, Any], bytes], noise: bytes = b"") -> io.BytesIO:
    stream = io.BytesIO()
    for command, payload in commands:
        stream.write(noise)
        protocol.write_frame(stream, command, payload)
    stream.seek(0)
    return stream


def answers(stream: io.BytesIO, runtime: FakeRuntime | None = None) -> list[dict[str, Any]]:
    results = io.BytesIO()
    serve(stream, results, runtime=runtime or FakeRuntime())
    results.seek(0)
    found = []
    while (frame := protocol.read_frame(results)) is not None:
        found.append(frame[0])
    return found


def measure_command(number: int = 0) -> dict[str, Any]:
    return {
        "command": "measure",
        "id": number,
        "rules": RULES,
        "threads": 1,
        "batch": 1,
        "precision": "fp32",
    }


def test_a_frame_comes_back_as_it_was_sent() -> None:
    assert protocol.read_frame(frames(({"a": [1, "é"]}, b"\x00\n\xff"))) == ({"a": [1, "é"]}, b"\x00\n\xff")


def test_what_a_login_shell_prints_is_skipped() -> None:
    noise = b"Welcome to Debian!\r\n\x00HWNAS\x00HWNAS\n"
    stream = frames(({"n": 1}, b"x"), ({"n": 2}, b""), noise=noise)
    assert protocol.read_frame(stream) == ({"n": 1}, b"x")
    assert protocol.read_frame(stream) == ({"n": 2}, b"")
    assert protocol.read_frame(stream) is None


def test_a_stream_that_ends_inside_a_frame_is_an_error_at_every_byte() -> None:
    whole = frames(({"n": 1}, b"payload")).getvalue()
    for length in range(len(protocol.MARK), len(whole)):
        with pytest.raises(protocol.ProtocolError, match="ended inside a frame"):
            protocol.read_frame(io.BytesIO(whole[:length]))


def test_a_flipped_bit_in_a_frame_is_an_error() -> None:
    data = bytearray(frames(({"n": 1}, b"payload")).getvalue())
    data[-1] ^= 1
    with pytest.raises(protocol.ProtocolError, match="checksum"):
        protocol.read_frame(io.BytesIO(bytes(data)))


def test_a_deflated_payload_is_small_on_the_way_and_whole_where_it_arrives() -> None:
    payload = bytes(range(256)) * 4000
    stream = frames(({"n": 1}, protocol.deflated(payload)), ({"n": 2}, b"plain"))
    assert len(stream.getvalue()) < len(payload) / 50
    assert protocol.read_frame(stream) == ({"n": 1}, payload)
    assert protocol.read_frame(stream) == ({"n": 2}, b"plain")


@pytest.mark.parametrize(
    ("sent", "said"),
    [(b"not deflated", "cannot be inflated"), (zlib.compress(b"x" * 99)[:-5], "is incomplete")],
)
def test_a_payload_that_is_not_deflated_as_it_says_is_an_error(sent: bytes, said: str) -> None:
    with pytest.raises(protocol.ProtocolError, match=said):
        protocol.read_frame(frames(({"n": 1}, protocol.Deflated(sent))))


def test_a_small_payload_that_would_fill_the_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_PAYLOAD_BYTES", 100_000)
    at_the_limit = frames(({}, protocol.deflated(bytes(100_000))))
    assert protocol.read_frame(at_the_limit) == ({}, bytes(100_000))
    with pytest.raises(protocol.ProtocolError, match="larger than the protocol allows"):
        protocol.read_frame(frames(({}, protocol.deflated(bytes(100_001)))))


def test_the_agent_says_where_it_runs_and_on_what() -> None:
    (answer,) = answers(frames(({"command": "hello"}, b"")))
    assert answer["runtime"]["version"] == "9"
    assert answer["environment"]["cores"] >= 1


def test_a_measured_cell_has_its_raw_samples() -> None:
    runtime = FakeRuntime()
    (answer,) = answers(frames((measure_command(7), b"model")), runtime)
    assert answer["id"] == 7
    assert len(answer["samples_ns"]) >= 4
    assert answer["low_ms"] <= answer["median_ms"] <= answer["high_ms"]
    assert runtime.open == 0


def test_a_model_that_travels_deflated_is_prepared_whole() -> None:
    runtime = FakeRuntime()
    (answer,) = answers(frames((measure_command(), protocol.deflated(b"model"))), runtime)
    assert "median_ms" in answer
    assert runtime.prepared == [(b"model", 1)]


def test_a_cell_that_fails_answers_and_the_next_one_goes_on() -> None:
    runtime = FakeRuntime()
    commands = [(measure_command(n), model) for n, model in enumerate((b"broken", b"breaks later", b"fine"))]
    first, second, third = answers(frames(*commands), runtime)
    assert first["error"] == "no kernel for this node"
    assert second["type"] == "MemoryError"
    assert "median_ms" in third
    assert runtime.open == 0


def test_a_cell_beside_a_reference_network_has_the_reference_networks_samples_too() -> None:
    runtime = FakeRuntime()
    settings = {"command": "reference", "threads": 1, "batch": 16, "precision": "fp32"}
    beside = measure_command() | {"beside": True, "batch": 16}
    loaded, answer, again = answers(
        frames((settings, b"reference"), (beside, b"model"), (settings, b"")), runtime
    )
    assert loaded["loaded"] == again["loaded"] == len(b"reference")
    assert len(answer["reference_ns"]) == len(answer["samples_ns"]) + 1
    assert len(answer["cold_ns"]) == len(answer["samples_ns"])
    # One image, whatever the cells' batch; loaded afresh when asked without a model.
    assert runtime.prepared == [(b"reference", 1), (b"model", 16), (b"reference", 1)]
    assert runtime.open == 1  # the reference network stays


def test_nothing_is_timed_beside_a_reference_network_that_was_not_sent() -> None:
    first, second = answers(
        frames(({"command": "reference"}, b""), (measure_command() | {"beside": True}, b"model"))
    )
    assert "send its model first" in first["error"]
    assert "was not sent" in second["error"]


def test_the_agent_stops_when_told_and_when_its_input_ends() -> None:
    assert answers(frames(({"command": "quit"}, b""), ({"command": "hello"}, b""))) == []
    assert answers(io.BytesIO()) == []


def test_an_unknown_command_is_answered() -> None:
    (answer,) = answers(frames(({"command": "format-disk"}, b"")))
    assert "unknown command" in answer["error"]


def test_the_agent_process_ends_with_its_input() -> None:
    plugin = Path(hwnas.runtimes.__file__).parent / "onnxruntime.py"
    boot = "import sys; sys.path[0] = sys.argv[1]; from hwnas.board.agent import main; main(sys.argv[2])"
    done = subprocess.run(
        [sys.executable, "-c", boot, str(ROOT), str(plugin)], input=b"", capture_output=True, timeout=30
    )
    assert done.returncode == 0
    assert done.stdout == b""


def test_board_and_runtimes_load_nothing_else_of_hwnas() -> None:
    plugins = sorted((ROOT / "hwnas/runtimes").glob("[!_]*.py"))
    code = (
        "import sys; from hwnas.board import agent; [agent.load_runtime(f) for f in sys.argv[1:]];"
        "print(sorted(m for m in sys.modules if m.startswith('hwnas') or m in ('yaml', 'onnxruntime')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, plugins)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = ast.literal_eval(done.stdout)
    allowed = {"hwnas", "hwnas.board", "hwnas_runtime"}
    assert [name for name in loaded if name not in allowed and not name.startswith("hwnas.board.")] == []


BOARD_FILES = [
    file for folder in ("board", "runtimes") for file in sorted((ROOT / "hwnas" / folder).glob("*.py"))
]


@pytest.mark.parametrize("file", BOARD_FILES, ids=lambda file: file.name)
def test_board_files_are_python_3_9(file: Path) -> None:
    ast.parse(file.read_text(), feature_version=(3, 9))


def test_a_runtime_plug_in_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_runtime(str(tmp_path / "none.py"))


# --- guards and environment ---


def test_the_raspberry_pis_throttling_bits_are_read() -> None:
    bits = guards.throttled_bits(ask=lambda: "throttled=0x50005\n")
    assert bits == 0x50005
    assert guards.throttled_words(bits) == ("under-voltage", "throttled")
    assert guards.throttled_words(0x50000) == ()


def test_a_board_without_vcgencmd_has_no_throttling_bits() -> None:
    def missing() -> str:
        raise FileNotFoundError("vcgencmd")

    assert guards.throttled_bits(ask=missing) is None
    assert guards.throttled_bits(ask=lambda: "nonsense") is None
    assert guards.throttled_words(None) == ()


def test_a_guard_sees_that_its_process_had_to_wait() -> None:
    wall, cpu = iter([0.0, 2.0]), iter([0.0, 1.0])
    guard = guards.Guard(clock=lambda: next(wall), cpu_clock=lambda: next(cpu), bits=lambda: None)
    with guard:
        pass
    assert guard.cpu_share == 0.5
    assert guard.throttled == ()


def test_a_guard_sees_throttling_that_begins_while_it_watches() -> None:
    bits = iter([0, 4])
    guard = guards.Guard(bits=lambda: next(bits))
    with guard:
        pass
    assert guard.throttled == ("throttled",)


def test_state_and_environment_are_read_from_the_kernel(tmp_path: Path) -> None:
    files = {
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "600000\n",
        "sys/class/thermal/thermal_zone0/temp": "61234\n",
        "proc/loadavg": "0.50 0.40 0.30 1/100 99\n",
        "proc/cpuinfo": "processor\t: 0\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n",
        "proc/meminfo": "MemTotal:        3884352 kB\n",
        "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\x00",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = environment.describe(tmp_path)
    assert found["board"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert found["governor"] == "powersave"
    assert found["clock_mhz"] == 600
    assert found["temperature_c"] == pytest.approx(61.234)
    assert found["load"] == 0.5
    assert found["memory_mib"] == 3793


def test_a_machine_that_tells_nothing_is_described_without_guesses(tmp_path: Path) -> None:
    found = environment.describe(tmp_path)
    assert (found["board"], found["governor"], found["clock_mhz"], found["memory_mib"]) == (None,) * 4
