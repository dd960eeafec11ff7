"""Mutation testing: changes one place of the code at a time, and asks whether the tests notice.

    python experiments/hard_use/mutants.py --count 200 --out mutants.json
    python experiments/hard_use/mutants.py --count 20 --area space

A random sample of all changes that there are: comparisons, arithmetic, constants, `and`/`or`/`not`, returned
values, statements left out. Each is tried in a copy of the package, with the fast tests of its area, which
stop at the first failure. A mutant that survives is printed with its line; one that takes more than ten
times as long as the tests do counts as found.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

AREAS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "space": (
        ("hwnas/space/*.py",),
        ("test_space_arch.py", "test_space_search.py", "test_space_ops.py", "test_io_bounds.py"),
    ),
    "latency": (
        ("hwnas/predictors/latency/*.py",),
        (
            "test_latency_table_file.py",
            "test_latency_predict.py",
            "test_latency_fit.py",
            "test_latency_locate.py",
            "test_latency_correction.py",
            "test_latency_residual.py",
            "test_runtime_versions.py",
        ),
    ),
    "io": (("hwnas/io/*.py",), ("test_io_jsonl.py", "test_io_bounds.py", "test_train_checkpoint.py")),
    "run": (
        (
            "hwnas/search/run.py",
            "hwnas/search/candidates.py",
            "hwnas/search/config.py",
            "hwnas/search/trial.py",
            "hwnas/search/front.py",
            "hwnas/search/verification.py",
        ),
        ("test_io_jsonl.py", "test_search_selection.py", "test_search_verify.py", "test_search_run.py"),
    ),
}  # fmt: skip
"""By area: what is changed, and the tests that are asked, the quickest first."""

COMPARED = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
COMPUTED = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip


def places(text: str) -> list[tuple[int, str]]:
    """(number of the node, kind of change) of every change there is in a module's text."""
    return [(number, kind) for number, node in enumerate(_code(ast.parse(text))) for kind in _changes(node)]


def mutant(text: str, number: int, kind: str) -> tuple[str, str]:
    """(the module's text with that change, what was changed)."""
    tree = ast.parse(text)
    node: Any = list(_code(tree))[number]
    before = ast.unparse(node)
    _apply(node, kind)
    what = f"line {node.lineno}: {before[:90]} -> {ast.unparse(node)[:90]}"
    return ast.unparse(ast.fix_missing_locations(_Unraised().visit(tree))), what


def _code(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes that can be changed, outside of annotations, docstrings and `__all__`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom | ast.arg):
            continue
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Raise):  # the words of an error are no behaviour that matters here
            if hasattr(node, "lineno"):
                yield node
            continue
        if isinstance(node, ast.ClassDef):  # its decorator's `slots=True` is nothing that a test could see
            for statement in node.body:
                yield from _code(ast.Module([statement], []))
            continue
        if isinstance(node, ast.AnnAssign):
            if node.value is not None:
                yield node.value
                yield from _code(node.value)
            continue
        if isinstance(node, ast.FunctionDef):
            for default in [*node.args.defaults, *(one for one in node.args.kw_defaults if one)]:
                yield default
                yield from _code(default)
            for statement in node.body:
                yield from _code(ast.Module([statement], []))
            continue
        if hasattr(node, "lineno"):
            yield node
        yield from _code(node)


def _changes(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARED:
        yield "compared"
    elif isinstance(node, ast.BinOp) and type(node.op) in COMPUTED:
        yield "computed"
    elif isinstance(node, ast.BoolOp):
        yield "joined"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "not"
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        yield "constant"
    elif (isinstance(node, ast.Return) and node.value is not None) or isinstance(node, ast.Raise):
        yield "left out"
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        yield "condition"


def _apply(node: Any, kind: str) -> None:
    match kind:
        case "compared":
            node.ops[0] = COMPARED[type(node.ops[0])]()
        case "computed":
            node.op = COMPUTED[type(node.op)]()
        case "joined":
            node.op = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
        case "not":
            node.op, node.operand = ast.Not(), ast.UnaryOp(ast.Not(), node.operand)
        case "constant":
            node.value = not node.value if isinstance(node.value, bool) else node.value + 1
        case "left out":
            if isinstance(node, ast.Return):
                node.value = ast.Constant(None)
            else:
                node.exc, node.cause = ast.Name("_not_raised", ast.Load()), None
        case "condition":
            node.test = ast.UnaryOp(ast.Not(), node.test)
    ast.fix_missing_locations(node)


class _Unraised(ast.NodeTransformer):
    """`raise _not_raised` is a statement left out."""

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Name) and node.exc.id == "_not_raised":
            return ast.copy_location(ast.Pass(), node)
        return node


def found_by(tests: tuple[str, ...], copy_of: Path, limit_s: float) -> tuple[bool, float]:
    """Whether one of the tests fails with the package as it is in the copy; seconds."""
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += ["-o", "addopts=-m 'not slow'", *(f"tests/{test}" for test in tests)]
    process = subprocess.Popen(
        command,
        cwd=copy_of,
        env=os.environ | {"PYTHONPATH": str(copy_of), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
        return True, time.monotonic() - began
    return code != 0, time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--area", action="append", choices=AREAS, help="repeatable; all when left out")
    parser.add_argument("--count", type=int, default=200, help="mutants in all (200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9, help="start no mutant after this time")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    areas = options.area or list(AREAS)
    until = time.monotonic() + 60 * options.minutes
    pool: list[tuple[str, Path, int, str]] = []
    for area in areas:
        for pattern in AREAS[area][0]:
            for file in sorted(ROOT.glob(pattern)):
                pool += [(area, file, number, kind) for number, kind in places(file.read_text())]
    sample = random.Random(options.seed).sample(pool, min(options.count, len(pool)))
    print(f"{len(sample)} of {len(pool)} mutants in {', '.join(areas)}", flush=True)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        copy_of = Path(folder) / "hwnas"
        shutil.copytree(
            ROOT, copy_of, ignore=shutil.ignore_patterns(".git", ".venv*", "__pycache__", ".*_cache")
        )
        usual: dict[str, float] = {}
        for area in areas:
            failed, usual[area] = found_by(AREAS[area][1], copy_of, 600)
            print(f"{area}: the tests take {usual[area]:.1f} s", flush=True)
            if failed:
                raise SystemExit(f"{area}: its tests must pass before anything is changed")
        for area, file, number, kind in sample:
            if time.monotonic() > until:
                break
            place = copy_of / file.relative_to(ROOT)
            whole = place.read_text()
            changed, what = mutant(whole, number, kind)
            place.write_text(changed)
            found, _ = found_by(AREAS[area][1], copy_of, 10 * usual[area] + 10)
            place.write_text(whole)
            rows.append({"area": area, "file": str(file.relative_to(ROOT)), "what": what, "found": found})
            if not found:
                print(f"survived: {file.relative_to(ROOT)}: {what}", flush=True)
            if options.out:
                options.out.write_text(json.dumps(_summary(rows, len(pool), options.seed), indent=1) + "\n")
    summary = _summary(rows, len(pool), options.seed)
    for area, figures in summary["areas"].items():
        print(f"{area}: {figures['found']} of {figures['tried']} found")
    print(f"score {summary['score_percent']:.1f} % of {len(rows)} mutants")
    return 0


def _summary(rows: list[dict[str, Any]], there: int, seed: int) -> dict[str, Any]:
    areas = {
        area: {
            "tried": sum(row["area"] == area for row in rows),
            "found": sum(row["found"] for row in rows if row["area"] == area),
        }
        for area in dict.fromkeys(row["area"] for row in rows)
    }
    return {
        "seed": seed,
        "mutants_there": there,
        "tried": len(rows),
        "score_percent": round(100 * sum(row["found"] for row in rows) / max(1, len(rows)), 1),
        "areas": areas,
        "survivors": [f"{row['file']}: {row['what']}" for row in rows if not row["found"]],
    }


if __name__ == "__main__":
    raise SystemExit(main())
