"""What every test relies on: no settings from outside, few threads, the same examples each run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from hwnas.cli.app import main

hypothesis.settings.register_profile("house", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("house")
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("HWNAS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist sets it to the width of its terminal


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    """Bits depend on torch's threads, and a runtime that was tried sets them for the whole process."""

    def threads() -> int:
        torch = sys.modules.get("torch")  # None also where a test hides it
        return 0 if torch is None else torch.get_num_threads()

    before = threads() or int(os.environ["OMP_NUM_THREADS"])
    yield
    if threads() not in (0, before):
        sys.modules["torch"].set_num_threads(before)


@pytest.fixture(scope="module")
def two_local_workers() -> Iterator[None]:
    """One Ray for all tests of a file: starting it takes seconds."""
    import ray

    here = Path(__file__).resolve().parent
    paths = os.pathsep.join([str(here.parent), str(here)])
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
    )
    yield
    ray.shutdown()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command line answered."""

    code: int
    out: str
    err: str


@pytest.fixture
def hwnas(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """`hwnas("describe", "uniform-t")`: runs the command line in this process."""

    def run(*arguments: str) -> Answer:
        capsys.readouterr()
        code = main(arguments)
        said = capsys.readouterr()
        return Answer(code, said.out, said.err)

    return run
