"""The imports between hwnas's own files: layers, cycles and upward imports.

    python tests/import_graph.py            # this checkout
    python tests/import_graph.py FOLDER     # another one's hwnas folder

Prints files and lines of each package, the cycles between files, and the imports that point from a
lower layer to a higher one. Imports for type checkers only do not count; imports inside functions do.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "hwnas"

LAYERS = (
    (
        "hwnas.errors",
        "hwnas.plugins",
        "hwnas.foreign",
        "hwnas.paths",
        "hwnas.shell",
        "hwnas.text",
        "hwnas.types",
        "hwnas.units",
        "hwnas.gaussian_process",
        "hwnas.ray_cluster",
        "hwnas.schemas",
        "hwnas",
    ),
    ("hwnas.io",),
    ("hwnas.board", "hwnas.runtimes"),
    ("hwnas.space",),
    ("hwnas.estimate", "hwnas.targets"),
    ("hwnas.metrics",),
    ("hwnas.data", "hwnas.nn"),
    ("hwnas.train",),
    ("hwnas.supernet", "hwnas.dense", "hwnas.explain"),
    ("hwnas.predictors.latency",),
    ("hwnas.predictors",),
    ("hwnas.export",),
    ("hwnas.measure",),
    ("hwnas.search",),
    ("hwnas.gallery", "hwnas.report", "hwnas.tune"),
    ("hwnas.doctor",),
    ("hwnas.named",),
    ("hwnas.api",),
    ("hwnas.latency",),
    ("hwnas.cli",),
    ("hwnas.__main__",),
)
"""Lowest layer first. A file imports its own package, or layers below its own."""


def modules(package: Path = PACKAGE) -> Iterator[tuple[str, Path]]:
    """(dotted name, file) of each module, sorted."""
    for file in sorted(package.rglob("*.py")):
        parts = ("hwnas", *file.relative_to(package).with_suffix("").parts)
        yield ".".join(part for part in parts if part != "__init__"), file


def imported(module: str, file: Path, *, inside_functions: bool = True) -> set[str]:
    """Names that a file imports when it runs; imports for type checkers only are left out."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for other in node.orelse:
                visit(other)
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not inside_functions:
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are written in full, got a relative one"
            source = node.module or ""
            found.update(f"{source}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(file.read_text(encoding="utf-8")))
    return found


def within(name: str, package: str) -> bool:
    """Whether `name` is the package or something in it."""
    return name == package or name.startswith(package + ".")


def layer_of(name: str) -> tuple[int, str]:
    """The layer of a module, and the package on it (the most exact one)."""
    fits = [
        (len(package), number, package)
        for number, layer in enumerate(LAYERS)
        for package in layer
        if within(name, package)
    ]
    _, number, package = max(fits)
    return number, package


def edges(package: Path = PACKAGE) -> dict[str, set[str]]:
    """The modules that each module imports by name."""
    files = dict(modules(package))
    graph: dict[str, set[str]] = {}
    for module, file in files.items():
        graph[module] = set()
        for name in imported(module, file):
            target = name if name in files else name.rpartition(".")[0]
            if target in files and target not in (module, "hwnas"):
                graph[module].add(target)
    return graph


def cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other (strongly connected components of two or more)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in sorted(graph[module]):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            group = []
            while True:
                group.append(stack.pop())
                if group[-1] == module:
                    break
            if len(group) > 1:
                found.append(sorted(group))

    for module in sorted(graph):
        if module not in index:
            visit(module)
    return sorted(found)


def upward(graph: Mapping[str, set[str]]) -> list[str]:
    """A sentence for each import from a lower layer to a higher one, or to a neighbour on its own."""
    wrong = []
    for module, others in sorted(graph.items()):
        layer, package = layer_of(module)
        for other in sorted(others):
            other_layer, other_package = layer_of(other)
            if other_package != package and other_layer >= layer and layer > 0:
                wrong.append(f"{module} (layer {layer}) imports {other} (layer {other_layer})")
    return wrong


def main() -> None:
    package = Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE
    sizes: dict[str, list[int]] = {}
    for module, file in modules(package):
        top = ".".join(module.split(".")[:2]) if file.parent != package else "hwnas (single files)"
        sizes.setdefault(top, []).append(len(file.read_text(encoding="utf-8").splitlines()))
    print(f"{'package':24}{'files':>6}{'lines':>8}")
    for top, lines in sorted(sizes.items()):
        print(f"{top:24}{len(lines):>6}{sum(lines):>8}")
    every = [count for lines in sizes.values() for count in lines]
    print(f"{'all':24}{len(every):>6}{sum(every):>8}\n")
    graph = edges(package)
    print(f"import cycles between files: {len(cycles(graph))}")
    for group in cycles(graph):
        print("    " + ", ".join(group))
    if package == PACKAGE:
        wrong = upward(graph)
        print(f"upward imports: {len(wrong)}")
        for line in wrong:
            print("    " + line)


if __name__ == "__main__":
    main()
