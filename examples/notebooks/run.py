"""Runs the notebooks and stores their outputs: python examples/notebooks/run.py [NAME.ipynb ...]

Each runs in an empty folder and a kernel of its own. The board of the notebook on ssh is this machine, behind
a private ssh server on loopback; without sshd that notebook is left out.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nbclient
import nbformat

HERE = Path(__file__).resolve().parent
NEEDS_A_BOARD = "3-new-board-over-ssh.ipynb"
TIMEOUT_S = 300


def run(file: Path, folder: Path, **environment: str) -> nbformat.NotebookNode:
    """The notebook with the outputs of a run in `folder`. Raises nbclient's CellExecutionError."""
    notebook = nbformat.read(file, as_version=4)
    before = dict(os.environ)
    root = str(HERE.parents[1])
    paths = os.pathsep.join(filter(None, [root, before.get("PYTHONPATH")]))
    os.environ.update(environment, PYTHONPATH=paths)
    try:
        client = nbclient.NotebookClient(
            notebook, timeout=TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        )
        client.execute()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return notebook


def stored(notebook: nbformat.NotebookNode) -> str:
    """The notebook's text, without the times of its cells, the version of Python, and stderr."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    notebook.metadata.pop("language_info", None)
    return str(nbformat.writes(notebook)) + "\n"


def main() -> None:
    sys.path.insert(0, str(HERE.parents[1] / "tests"))
    from board import sshd

    files = [HERE / name for name in sys.argv[1:]] or sorted(HERE.glob("*.ipynb"))
    for file in files:
        with tempfile.TemporaryDirectory() as folder:
            given: dict[str, str] = {}
            board = None
            if file.name == NEEDS_A_BOARD:
                if (reason := sshd.why_not()) is not None:
                    print(f"left out: {file.name} {reason}")
                    continue
                board = sshd.Board(Path(folder) / "board")
                given = {"BOARD": sshd.HOST, "HWNAS_SSH_CONFIG": str(board.config)}
            work = Path(folder) / "work"
            work.mkdir()
            try:
                text = stored(run(file, work, **given))
            finally:
                if board is not None:
                    board.end()
        file.write_text(text, encoding="utf-8")
        print(file.name)


if __name__ == "__main__":
    main()
