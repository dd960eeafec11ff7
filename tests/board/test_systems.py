"""The agent on systems that this machine is not: an arm64 one under emulation, an old one with Python 3.9.

What is shown is that it runs there and computes the right numbers; on arm64 over a real link too, from
nothing to a search with the table. Times under emulation mean nothing.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hwnas.board
from board import sshd
from hwnas.board.timing import Rules
from hwnas.io import yaml as yaml_io
from hwnas.measure.build import make_table, measured_profile
from hwnas.measure.cells import Bench, timings
from hwnas.measure.models import Models
from hwnas.measure.plan import make_plan, space_ops
from hwnas.measure.remote.lasting_link import LastingLink
from hwnas.measure.remote.link import BOOT, AgentLink, plugin_file
from hwnas.measure.remote.ssh_board import SshBoard, SshLink
from hwnas.measure.samples import Journal
from hwnas.predictors.latency.profile import DeviceProfile
from hwnas.space import SearchSpace, preset

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
        self.folder, self.root = folder, root
        home = f"{root}/usr"
        self.program = program = f"{root}/usr/bin/python{python}"
        libraries = f"{root}/lib/x86_64-linux-gnu:{root}/usr/lib/x86_64-linux-gnu"
        # Not lib64/ld-linux-x86-64.so.2: that leads to this machine's own.
        loader = str(next((root / "lib/x86_64-linux-gnu").glob("ld-*.so*"), ""))
        self.call = ["env", f"PYTHONPATH={folder / 'site'}"] + (
            ["qemu-aarch64-static", "-cpu", "cortex-a72", "-L", str(root), program]
            if architecture == "arm64"
            else [f"PYTHONHOME={home}", loader, "--library-path", libraries, program]
        )

    def python_file(self, file: Path) -> str:
        """Makes a program of this machine that is an emulated arm64 Python, which takes it for its own."""
        file.write_text(
            f"#!/bin/sh\nexport PYTHONHOME='{self.root}/usr' PYTHONPATH='{self.folder / 'site'}'\n"
            f"exec qemu-aarch64-static -0 \"$0\" -cpu cortex-a72 -L '{self.root}' '{self.program}' \"$@\"\n"
        )
        file.chmod(0o755)
        return str(file)

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
    from hwnas.export.timing import exporter
    from hwnas.space import preset

    arch = preset("efficientvit-m0").adapted(resolution=64, classes=10)
    return exporter("onnxruntime", "fp32").network_model(arch, batch=1)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str, str], System]:
    """Makes a system, each once for all tests; skips where it cannot be made."""

    @functools.cache
    def make(architecture: str, release: str, python: str) -> System:
        needed = ["mmdebstrap"] + (["qemu-aarch64-static"] if architecture == "arm64" else [])
        missing = [name for name in needed if shutil.which(name) is None]
        if missing:
            pytest.skip(f"needs {', '.join(missing)}: apt-get install mmdebstrap qemu-user-static")
        return System(tmp_path_factory.mktemp(architecture), architecture, release, python)

    return make


ARM64 = ("arm64", "bookworm", "3.11")
OLD = ("amd64", "bullseye", "3.9")


@pytest.mark.slow
@pytest.mark.emulated
@pytest.mark.parametrize(("architecture", "release", "python"), [ARM64, OLD])
def test_the_agent_runs_there_and_computes_the_same(
    architecture: str, release: str, python: str, model: bytes, system: Callable[[str, str, str], System]
) -> None:
    made = system(architecture, release, python)
    with AgentLink([*made.call, "-c", BOOT, str(ROOT), str(plugin_file("onnxruntime"))]) as agent:
        hello = agent.hello()
        assert hello["environment"]["machine"] == {"arm64": "aarch64", "amd64": "x86_64"}[architecture]
        assert hello["environment"]["python"].startswith(python)
        assert hello["runtime"]["missing"] is None
        profile = DeviceProfile(
            board="emulated", runtime="onnxruntime", provider=hello["runtime"]["provider"], precision="fp32"
        )
        answer = agent.measure(model, rules=RULES, profile=profile)
        assert len(answer["samples_ns"]) >= 1
    assert made.outputs(model) == pytest.approx(outputs([sys.executable], model), abs=1e-4, rel=1e-3)


@pytest.mark.slow
@pytest.mark.emulated
def test_an_arm64_board_is_measured_over_ssh_and_searched_with(
    system: Callable[[str, str, str], System],
    new_board: Callable[..., sshd.Board],
    reach: Callable[..., SshBoard],
    hwnas: Callable[..., Any],
    tmp_path: Path,
) -> None:
    pytest.importorskip("torch")
    from hwnas.export.timing import exporter

    python = system(*ARM64).python_file(tmp_path / "python")
    host = reach(new_board(HWNAS_PYTHON=python), plugin=plugin_file)

    def start() -> LastingLink:
        return LastingLink(lambda: SshLink(host, "onnxruntime"), boot=lambda: host.boot)

    space = SearchSpace.from_dict(MICRO)
    plan = dataclasses.replace(
        make_plan(space, networks=4, passes=1),
        ops=tuple(space_ops(space)),
        filled=(),
        reference=("reference", preset("uniform-t").adapted(resolution=32, stem_stride=4, classes=10)),
    )
    networks = dict(plan.networks)
    profile, environment = measured_profile(
        start, runtime="onnxruntime", threads=1, batch=1, precision="fp32"
    )
    with Journal(tmp_path / "emulated.samples", {"name": "emulated"}, resume=False) as journal:
        models = Models(plan, exporter("onnxruntime", "fp32"), 1, tmp_path / "models", deflate=True)
        bench = Bench(journal, start, models, networks.__contains__, profile)
        bench.run_pass(0, plan.order(0))  # times mean nothing: none is judged
        timed = timings(journal.records, networks.__contains__)
    assert bench.failures == {}
    table = make_table(
        plan, timed, name="emulated", profile=profile, environment=environment, created="2026-11-21"
    )
    assert table.environment["machine"] == "aarch64"
    assert table.provenance == "measured" and len(table.rows) == len(plan.ops)
    table.save(tmp_path / "emulated.yaml")
    (tmp_path / "micro.yaml").write_text(yaml_io.dump(space.to_dict()))
    found = hwnas(
        "search", "--device", str(tmp_path / "emulated.yaml"), "--budget", "60s", "--trials", "10",
        "--space", str(tmp_path / "micro.yaml"), "--accuracy", "published",
        "--out", str(tmp_path / "run"), "--json",
    )  # fmt: skip
    assert found.code == 0, found.err
    assert json.loads(found.out)["front"]


MICRO = {
    "format": 1,
    "name": "micro",
    "resolution": [64],
    "classes": 10,
    "attention": ["none", {"type": "reuse", "heads": 2, "kernels": [3, 5]}],
    "stages": [{"width": [32], "depth": [1, 2], "ffn_ratio": [2, 3], "layout": ["dw-attention-ffn"]}],
}

BOARD_FILES = [*sorted((ROOT / "hwnas/board").glob("*.py")), *sorted((ROOT / "hwnas/runtimes").glob("*.py"))]


@pytest.mark.parametrize("file", BOARD_FILES, ids=lambda file: file.name)
@pytest.mark.parametrize("minor", [9, 10])
def test_what_runs_on_a_board_is_written_for_python_3_9_and_3_10(file: Path, minor: int) -> None:
    ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, minor))
