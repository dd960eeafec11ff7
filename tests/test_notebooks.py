"""The notebooks run: each in an empty folder and a kernel of its own. Their outputs are stored by
`python examples/notebooks/run.py`."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from board import sshd

FOLDER = Path(__file__).parents[1] / "examples" / "notebooks"
NAMES = sorted(file.name for file in FOLDER.glob("*.ipynb"))


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    spec = importlib.util.spec_from_file_location("notebook_runner", FOLDER / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def board(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What the notebook about boards finds in its environment."""
    if (reason := sshd.why_not()) is not None:
        pytest.skip(reason)
    made = sshd.Board(tmp_path / "board")
    yield {"BOARD": sshd.HOST, "HWNAS_SSH_CONFIG": str(made.config)}
    made.end()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of jupyter's packages about each other
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(
    name: str, runner: ModuleType, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    environment = request.getfixturevalue("board") if name == runner.NEEDS_A_BOARD else {}
    work = tmp_path / "work"
    work.mkdir()
    notebook = runner.run(FOLDER / name, work, **environment)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_in_the_site_with_the_outputs_of_a_whole_run(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    counts = [cell["execution_count"] for cell in cells]
    assert counts == list(range(1, len(cells) + 1)), (
        "store the outputs again: python examples/notebooks/run.py"
    )
    assert any(cell["outputs"] for cell in cells) and len(text) < 200_000
    assert not any(output["output_type"] == "error" for cell in cells for output in cell["outputs"])
    assert not any(output.get("name") == "stderr" for cell in cells for output in cell["outputs"])
    assert not [place for place in ("/tmp/", "/home/", "/site-packages/") if place in text]
    page = f"notebooks/{name.removesuffix('.ipynb')}.md"
    assert page in (FOLDER.parents[1] / "mkdocs.yml").read_text(encoding="utf-8")


def test_there_is_a_notebook_for_every_journey() -> None:
    assert len(NAMES) == 4
