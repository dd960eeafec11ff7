"""What every test relies on: no settings from outside, few threads, the same examples each run."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import hypothesis
import pytest
import schema_checks

from hwnas import schemas
from hwnas.cli import common
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
def _documents_are_what_their_schemas_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test makes a verb print with --json in this process."""
    monkeypatch.setattr(common, "json", schema_checks.CheckedJson)


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


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """`made_once("name", make)`: a folder that `make(folder)` fills, once for all processes of a test run.

    For what is expensive and only read, such as trained networks and exported files.
    """
    of_all = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        of_all = of_all.parent

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        place, done = of_all / f"once-{name}", of_all / f"once-{name}.done"
        with filelock.FileLock(of_all / f"once-{name}.lock"):
            if not done.exists():
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir()
                make(place)
                done.touch()
        return place

    return folder


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


# --- no schema without a real document of it ---------------------------------------------------


def pytest_testnodedown(node: Any, error: object) -> None:
    """On the controller: what a worker has validated."""
    schema_checks.SEEN.update(getattr(node, "workeroutput", {}).get("schemas", ()))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails a run of all tests (`-m ""`) in which no verb printed a document of some schema."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["schemas"] = sorted(schema_checks.SEEN)
        return
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.option.keyword
    unseen = sorted({*schemas.names()} - schema_checks.SEEN)
    if whole and not config.option.collectonly and unseen:
        config.get_terminal_writer().line(f"\nno test validated a real document of: {', '.join(unseen)}")
        if not config.option.markexpr and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
