"""How many times each mechanism is written: files that do the work themselves, found in the syntax tree.

python tests/count_mechanisms.py                 # this checkout
python tests/count_mechanisms.py --before 28bfeab  # and an earlier commit of it
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def _calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """(name of the function or method, the call)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func).rpartition(".")[2], node


def _appends(tree: ast.AST) -> bool:
    """Opens a file for appending, or rewrites what a file held with a line more."""
    text = ast.unparse(tree)
    opens = any(
        name == "open"
        and any(isinstance(a, ast.Constant) and str(a.value).startswith("a") for a in call.args)
        for name, call in _calls(tree)
    )
    return opens or "os.O_APPEND" in text or "before + json.dumps" in text


def _writes_atomically(tree: ast.AST) -> bool:
    """One function writes a file and renames that same file."""
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        written, renamed = set(), set()
        for name, call in _calls(function):
            if isinstance(call.func, ast.Attribute):
                of = ast.unparse(call.func.value)
                if name in ("write_bytes", "write_text", "open"):
                    written.add(of)
                if name == "replace" and len(call.args) == 1:
                    renamed.add(of)
                if name == "replace" and len(call.args) == 2 and of == "os":
                    renamed.add(ast.unparse(call.args[0]))
        if written & renamed:
            return True
    return False


def _locks(tree: ast.AST) -> bool:
    text = ast.unparse(tree)
    return "fcntl.flock" in text or "filelock.FileLock" in text


def _functions(tree: ast.AST, word: str) -> bool:
    return any(isinstance(node, ast.FunctionDef) and word in node.name for node in ast.walk(tree))


def _training_loop(tree: ast.AST) -> bool:
    """Calls backward itself."""
    return any(name == "backward" for name, _ in _calls(tree))


def _gaussian_process(tree: ast.AST) -> bool:
    """Factors a covariance itself."""
    return any(name in ("cholesky", "cho_factor", "cho_solve") for name, _ in _calls(tree))


def _parses_json(tree: ast.AST) -> bool:
    """Parses JSON with a translation of errors of its own."""
    return any(
        isinstance(node, ast.Try) and "json.loads" in "".join(ast.unparse(line) for line in node.body)
        for node in ast.walk(tree)
    )


MECHANISMS: dict[str, Callable[[ast.AST], bool]] = {
    "append-only logs": _appends,
    "atomic file writers": _writes_atomically,
    "file locks (the board's lease is two)": _locks,
    "translations of JSON errors": _parses_json,
    "parity checks": lambda tree: _functions(tree, "parity"),
    "training loops": _training_loop,
    "Gaussian-process cores": _gaussian_process,
    "chart renderers": lambda tree: "<svg" in ast.unparse(tree) or "matplotlib" in ast.unparse(tree),
}


def counted(package: Path) -> dict[str, list[str]]:
    """By mechanism, the files that have an implementation."""
    found: dict[str, list[str]] = {name: [] for name in MECHANISMS}
    for file in sorted(package.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for name, has in MECHANISMS.items():
            if has(tree):
                found[name].append(str(file.relative_to(package)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", metavar="COMMIT", help="an earlier commit to compare with")
    asked = parser.parse_args()
    if asked.before:
        archive = subprocess.run(
            ["git", "archive", asked.before, "hwnas"], cwd=ROOT, check=True, capture_output=True
        ).stdout
        with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
            _print(asked.before, counted(Path(folder) / "hwnas"))
    _print("now", counted(ROOT / "hwnas"))


def _print(when: str, found: dict[str, list[str]]) -> None:
    print(f"{when}:")
    for name, files in found.items():
        print(f"  {name:40} {len(files):2}  {', '.join(files)}")


if __name__ == "__main__":
    main()
