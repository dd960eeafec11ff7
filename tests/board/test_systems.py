"""The agent on systems that this machine is not: an arm64 one under emulation, an old one with Python 3.9.

What is shown is that it runs there and computes the right numbers. Times under emulation mean nothing.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hwnas.board
from hwnas.board.timing import Rules
from hwnas.latency.link import BOOT, AgentLink, plugin_file
from hwnas.latency.profile import DeviceProfile

ROOT = Path(hwnas.board.__file__).parents[2]
RULES = Rules(warmup_runs=3, warmup_s=0.0, warmup_limit_s=0.05, repeats=5, limit_s=0.05)
OUTPUTS = """\
import json, sys
sys.path[0] = sys.argv[1]
from hwnas.board.agent import load_runtime
session = load_runtime(sys.argv[2]).prepare(sys.stdin.buffer.read(), threads=1, batch=1, precision="fp32")
session.run()
print(json.dumps(session._binding.copy_outputs_to_cpu()[0].ravel().tolist()))
"""


class System:
    """A Debian in a folder, and how its Python is called."""

    def __init__(self, folder: Path, architecture: str, release: str, python: str) -> None:
        command = [str(Path(__file__).with_name("system.sh")), str(folder), architecture, release, python]
        made = subprocess.run(
            command, env={**os.environ, "HOST_PYTHON": sys.executable}, capture_output=True, text=True
        )
        if made.returncode:
            pytest.skip(f"no {release} for {architecture} can be made here: {made.stderr.strip()[-300:]}")
        root = folder / "r"
        home = f"{root}/usr"
        program = f"{root}/usr/bin/python{python}"
        libraries = f"{root}/lib/x86_64-linux-gnu:{root}/usr/lib/x86_64-linux-gnu"
        # Not lib64/ld-linux-x86-64.so.2: that leads to this machine's own.
        loader = str(next((root / "lib/x86_64-linux-gnu").glob("ld-*.so*"), ""))
        self.call = ["env", f"PYTHONPATH={folder / 'site'}"] + (
            ["qemu-aarch64-static", "-cpu", "cortex-a72", "-L", str(root), program]
            if architecture == "arm64"
            else [f"PYTHONHOME={home}", loader, "--library-path", libraries, program]
        )

    def outputs(self, model: bytes) -> list[float]:
        """What onnxruntime computes there for the inputs that the agent makes."""
        return outputs(self.call, model)


def outputs(call: list[str], model: bytes) -> list[float]:
    command = [*call, "-c", OUTPUTS, str(ROOT), str(plugin_file("onnxruntime"))]
    done = subprocess.run(command, input=model, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    found: list[float] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def model() -> bytes:
    pytest.importorskip("onnxruntime")
    from hwnas.nn import export
    from hwnas.space import preset

    return export.network_model(preset("efficientvit-m0").adapted(resolution=64, classes=10), batch=1)


@pytest.mark.emulated
@pytest.mark.parametrize(
    ("architecture", "release", "python"), [("arm64", "bookworm", "3.11"), ("amd64", "bullseye", "3.9")]
)
def test_the_agent_runs_there_and_computes_the_same(
    architecture: str, release: str, python: str, model: bytes, tmp_path: Path
) -> None:
    needed = ["mmdebstrap"] + (["qemu-aarch64-static"] if architecture == "arm64" else [])
    missing = [name for name in needed if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: apt-get install mmdebstrap qemu-user-static")
    system = System(tmp_path, architecture, release, python)
    with AgentLink([*system.call, "-c", BOOT, str(ROOT), str(plugin_file("onnxruntime"))]) as agent:
        hello = agent.hello()
        assert hello["environment"]["machine"] == {"arm64": "aarch64", "amd64": "x86_64"}[architecture]
        assert hello["environment"]["python"].startswith(python)
        assert hello["runtime"]["missing"] is None
        profile = DeviceProfile(
            board="emulated", runtime="onnxruntime", provider=hello["runtime"]["provider"], precision="fp32"
        )
        answer = agent.measure(model, rules=RULES, profile=profile)
        assert len(answer["samples_ns"]) >= 1
    assert system.outputs(model) == pytest.approx(outputs([sys.executable], model), abs=1e-4, rel=1e-3)


BOARD_FILES = [*sorted((ROOT / "hwnas/board").glob("*.py")), *sorted((ROOT / "hwnas/runtimes").glob("*.py"))]


@pytest.mark.parametrize("file", BOARD_FILES, ids=lambda file: file.name)
@pytest.mark.parametrize("minor", [9, 10])
def test_what_runs_on_a_board_is_written_for_python_3_9_and_3_10(file: Path, minor: int) -> None:
    ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, minor))
