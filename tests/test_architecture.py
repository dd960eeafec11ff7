"""Imports point to lower layers, importing is light, `__all__` is true."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from import_graph import LAYERS, PACKAGE, cycles, edges, imported, layer_of, modules, upward, within

from hwnas.cli.app import VERBS

ALONE = ("hwnas.board", "hwnas.runtimes")
"""What is copied to a board, where there is no hwnas: it imports nothing of it but itself."""

HEAVY = (
    "torch", "torchvision", "timm", "onnx", "onnxruntime", "optuna", "ray", "sklearn",
    "scipy", "pandas", "jinja2", "vl_convert",
)  # fmt: skip


def file_of(verb: str) -> str:
    """The file of a verb, without its ending."""
    return verb.replace("-", "_")


def test_a_file_imports_its_own_package_or_layers_below_it() -> None:
    wrong = upward(edges())
    assert not wrong, "\n".join(wrong)


def test_no_files_import_each_other_in_a_circle() -> None:
    assert cycles(edges()) == []


def test_the_document_draws_the_layers_that_are_held_here() -> None:
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = re.findall(r"^\| (\d+) \| ((?:`[\w.]+`(?:, )?)+) \|", text, re.MULTILINE)
    layers = [tuple(f"hwnas.{name}" for name in re.findall(r"[\w.]+", names)) for _, names in drawn]
    held = [tuple(name for name in layer if name not in ("hwnas", "hwnas.__main__")) for layer in LAYERS]
    assert layers == [layer for layer in held if layer]


def test_every_module_has_a_layer_of_its_own() -> None:
    lost = [module for module, _ in modules() if layer_of(module)[1] == "hwnas" and module != "hwnas"]
    assert not lost, "give these modules a layer in LAYERS: " + ", ".join(lost)


@pytest.mark.parametrize("package", ALONE)
def test_what_runs_on_a_board_needs_nothing_else_of_hwnas(package: str) -> None:
    for module, file in modules():
        if within(module, package):
            others = [
                name
                for name in sorted(imported(module, file))
                if within(name, "hwnas") and not within(name, package)
            ]
            assert not others, f"{module} imports {', '.join(others)}, which a board does not have"


def test_the_space_needs_the_standard_library_and_the_ground_layer_alone() -> None:
    allowed = sys.stdlib_module_names | {"hwnas", "yaml", "numpy"}
    for module, file in modules():
        if within(module, "hwnas.space"):
            others = {name.partition(".")[0] for name in imported(module, file)} - allowed
            assert not others, f"{module} imports {', '.join(sorted(others))}"


def test_a_verbs_file_imports_nothing_heavy_until_it_is_called() -> None:
    light = {"typer", "hwnas"} | sys.stdlib_module_names
    for module, file in modules():
        if within(module, "hwnas.cli"):
            names = imported(module, file, inside_functions=False)
            foreign = {name.partition(".")[0] for name in names} - light
            assert not foreign, f"{module} imports {', '.join(sorted(foreign))} at its top"
            inner = {name for name in names if within(name, "hwnas") and not within(name, "hwnas.cli")}
            heavy = {name for name in inner if layer_of(name)[0] > 0}
            assert not heavy, f"{module} imports {', '.join(sorted(heavy))} at its top"


@pytest.mark.parametrize(
    "module",
    ["hwnas", "hwnas.space", "hwnas.predictors", "hwnas.predictors.latency", "hwnas.search", "hwnas.cli.app"]
    + [f"hwnas.cli.{file_of(verb)}" for verb in VERBS],
)
def test_importing_is_light(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [], f"importing {module} loads {done.stdout}"


@pytest.mark.parametrize(("arguments", "promised_s"), [(["--help"], 0.5), (["devices"], 1.0)])
def test_a_light_command_answers_at_once(arguments: list[str], promised_s: float) -> None:
    """The machine that tests may be busy: it gets three times what is promised, and three tries."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "hwnas", *arguments], capture_output=True, check=True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 3 * promised_s


def test_every_verb_has_its_file() -> None:
    missing = [verb for verb in VERBS if not (PACKAGE / "cli" / f"{file_of(verb)}.py").is_file()]
    assert not missing


def test_every_file_of_the_command_line_is_a_verb_or_what_verbs_share() -> None:
    names = {file.stem for file in (PACKAGE / "cli").glob("[a-z]*.py")}
    shared = (
        "app common describe_dense export_dense help limits long_work memory narrow os_errors"
        " renamed search_output streams table_building table_energy table_recheck table_transfer"
        " training typed workers"
    )
    assert names - {file_of(verb) for verb in VERBS} == set(shared.split())


def speaking_packages() -> list[str]:
    """Packages whose own file holds more than a sentence about them."""
    found = [name for name, file in modules() if file.name == "__init__.py" and name != "hwnas"]
    files = {name: PACKAGE.parent / Path(*name.split("."), "__init__.py") for name in found}
    return [name for name in found if len(ast.parse(files[name].read_text(encoding="utf-8")).body) > 1]


@pytest.mark.parametrize("package", speaking_packages())
def test_a_package_says_what_is_public_and_it_is_there(package: str) -> None:
    module = importlib.import_module(package)
    public = getattr(module, "__all__", None)
    assert isinstance(public, list | tuple), f"{package} has no __all__"
    assert len(public) == len(set(public)), f"{package}: __all__ has a name twice"
    absent = [name for name in public if not hasattr(module, name)]
    assert not absent, f"{package} promises {', '.join(absent)}"


def test_no_public_name_is_also_a_file_of_its_package() -> None:
    """Importing the file would put the module in the place of what the package promises."""
    files = dict(modules())
    taken = [
        f"{package}.{name}"
        for package in speaking_packages()
        for name in importlib.import_module(package).__all__
        if f"{package}.{name}" in files and "_HOMES" in vars(importlib.import_module(package))
    ]
    assert not taken, f"rename these files: {', '.join(taken)}"


def test_every_file_says_what_it_holds_in_its_first_line() -> None:
    silent = [
        module
        for module, file in modules()
        if not (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").strip()
    ]
    assert not silent


def test_nothing_is_called_utils() -> None:
    vague = [module for module, _ in modules() if module.rpartition(".")[2] in ("utils", "helpers", "misc")]
    assert not vague


def test_no_file_gives_a_constant_twice() -> None:
    """As two branches that add the same one leave it: the first is dead."""
    twice = []
    for file in PACKAGE.rglob("*.py"):
        names = [
            target.id
            for statement in ast.parse(file.read_text(encoding="utf-8")).body
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        ]
        twice += [f"{file.relative_to(PACKAGE)}: {name}" for name in names if names.count(name) > 1]
    assert not twice
