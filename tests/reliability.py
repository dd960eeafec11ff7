"""docs/reliability.md from tests/faults.yaml: what goes wrong, what happens, which test shows it.

python tests/reliability.py          writes the page
python tests/reliability.py --run    runs the tests that it names (all, or those of the kinds that follow)
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import yaml

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "reliability.md"
HEAD = """# Reliability

Each line is a fault that hwnas survives, what happens then, and the tests that show it. This page is made by
`python tests/reliability.py` from `tests/faults.yaml`; a test keeps it up to date, and
`python tests/reliability.py --run` runs all tests that are named here.

"Refused" means: an exit code that is not 0, one message that names the file or flag, the cause and the fix,
nothing half-written, no traceback. Exit codes are in [Command line](cli.md).
"""


@dataclass(frozen=True)
class Fault:
    """One row of the page."""

    what: str
    result: str
    tests: tuple[str, ...]
    """FILE::NAME, as pytest takes them, from the folder of the project."""


@dataclass(frozen=True)
class Kind:
    """Faults of one kind, and the one mechanism for all its places."""

    name: str
    places: str
    mechanism: str
    faults: tuple[Fault, ...]


def node(name: str) -> str:
    """`board/link::a_b` -> `tests/board/test_link.py::test_a_b`."""
    file, _, test = name.partition("::")
    folder, slash, stem = file.rpartition("/")
    return f"tests/{folder}{slash}test_{stem}.py::test_{test}"


def kinds() -> list[Kind]:
    """All that the file lists."""
    return [
        Kind(
            kind["kind"],
            kind["places"],
            kind["mechanism"],
            tuple(
                Fault(what, result, tuple(map(node, tests.split()))) for what, result, tests in kind["faults"]
            ),
        )
        for kind in yaml.safe_load((HERE / "faults.yaml").read_text(encoding="utf-8"))
    ]


def page() -> str:
    """The page's text."""
    found = kinds()
    lines = [HEAD, "| kind | places | mechanism | faults |", "|---|---|---|---|"]
    for kind in found:
        anchor = kind.name.lower().replace(",", "").replace(" ", "-")
        row = (f"[{kind.name}](#{anchor})", kind.places, kind.mechanism, str(len(kind.faults)))
        lines.append(f"| {' | '.join(row)} |")
    for kind in found:
        lines += ["", f"## {kind.name}", "", "| fault | what happens | tests |", "|---|---|---|"]
        for fault in kind.faults:
            shown = ", ".join(f"`{test.removeprefix('tests/')}`" for test in fault.tests)
            what = fault.what.replace("|", "\\|")
            lines.append(f"| {what} | {fault.result} | {shown} |")
    return "\n".join(lines) + "\n"


def missing() -> Iterator[str]:
    """Tests that are named and are not there."""
    known: dict[str, set[str]] = {}
    for test in dict.fromkeys(test for kind in kinds() for fault in kind.faults for test in fault.tests):
        file, _, name = test.partition("::")
        if file not in known:
            path = HERE.parent / file
            tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
            known[file] = {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)}
        if name not in known[file]:
            yield test


def run(chosen: list[Kind]) -> int:
    """Runs all tests of these kinds, and prints a table of what each fault's tests gave."""
    tests = dict.fromkeys(test for kind in chosen for fault in kind.faults for test in fault.tests)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "", f"--junitxml={report}", *tests]
        code = subprocess.run(command, cwd=HERE.parent, check=False).returncode
        cases = list(ElementTree.parse(report).iter("testcase"))
    outcomes: dict[str, set[str]] = {}
    for case in cases:
        name = f"{case.attrib['classname']}.{case.attrib['name'].partition('[')[0]}"
        outcome = next((one.tag for one in case if one.tag in ("failure", "error", "skipped")), "ok")
        outcomes.setdefault(name, set()).add(outcome)
    for kind in chosen:
        sys.stdout.write(f"\n{kind.name}\n")
        for fault in kind.faults:
            names = [test.replace(".py::", ".").replace("/", ".") for test in fault.tests]
            found = set().union(*(outcomes.get(name, {"not run"}) for name in names))
            shown = "ok" if found <= {"ok"} else ", ".join(sorted(found))
            sys.stdout.write(f"  {shown:<10} {fault.what}: {fault.result}\n")
    return code


def main(arguments: list[str]) -> int:
    if arguments[:1] != ["--run"]:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    wanted = arguments[1:]
    return run([kind for kind in kinds() if not wanted or kind.name in wanted])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
