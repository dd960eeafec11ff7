"""What a user stumbles over in the first hour; each stumble has a test."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import shlex
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwnas import plugins, shell
from hwnas.cli.app import main
from hwnas.cli.typed import as_typed
from hwnas.errors import MissingPackageError

ROOT = Path(__file__).parents[1]
EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]
IMPORTED_AS = {
    "scikit-learn": "sklearn",
    "pillow": "PIL",
    "vl-convert-python": "vl_convert",
    "mlflow-skinny": "mlflow",
}
"""Distributions whose import name is another one."""

Hwnas = Callable[..., Any]


def brought_by(extra: str) -> set[str]:
    """Import names that an extra of pyproject.toml installs."""
    names = {re.split(r"[\[<>=]", line)[0] for line in EXTRAS[extra]}
    return {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names} | {"scipy", "PIL"}


# --- next commands run as printed -------------------------------------------------------------


@pytest.fixture
def not_activated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Stands in a folder with .venv, whose programs the shell does not find."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "hwnas", "pip"):
        (programs / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_next_commands_name_the_program_by_its_path_where_the_shell_would_not_find_it(
    not_activated: Path, hwnas: Hwnas
) -> None:
    answer = hwnas("search", "--device", "rpi4", "--budget", "20ms", "--trials", "60", "--out", "run")
    assert answer.code == 0
    assert "  .venv/bin/hwnas describe 'run#1' --device rpi4" in answer.out
    assert "\n  hwnas " not in answer.out


def test_hints_of_errors_do_too(not_activated: Path, hwnas: Hwnas) -> None:
    answer = hwnas("describe", "uniform-t", "--device", "rpi44")
    assert answer.code == 2
    assert ".venv/bin/hwnas table build --name rpi44" in answer.err


def test_where_the_shell_finds_the_program_its_name_is_enough(
    not_activated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(not_activated / ".venv" / "bin"))
    assert shell.program() == "hwnas"
    assert as_typed("'hwnas devices' lists them") == "'hwnas devices' lists them"


def test_only_commands_are_rewritten(not_activated: Path) -> None:
    text = "this hwnas reads 2; ./hwnas devices; hwnas[torch]; from hwnas import x; 'hwnas table check x'"
    assert as_typed(text) == text.replace("'hwnas table", "'.venv/bin/hwnas table")


# --- missing packages -------------------------------------------------------------------------


def requirements_in_code() -> list[tuple[str, str, str]]:
    """(file, package, extra) of each `plugins.require` with constant arguments, and of each format."""
    found = []
    for file in sorted((ROOT / "hwnas").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            named = {one.arg: one.value for one in node.keywords}
            package = node.args[0] if node.args else named.get("package")
            extra = named.get("extra")
            if isinstance(package, ast.Constant) and isinstance(extra, ast.Constant):
                found.append((str(file.relative_to(ROOT)), str(package.value), str(extra.value)))
    return found


def test_every_missing_package_names_an_extra_that_brings_it() -> None:
    known = requirements_in_code()
    assert len(known) > 30
    wrong = [one for one in known if one[1].partition(".")[0] not in brought_by(one[2])]
    assert not wrong


def test_export_to_ncnn_names_the_extra_of_ncnn(
    hwnas: Hwnas, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("timm")
    monkeypatch.setitem(sys.modules, "ncnn", None)
    answer = hwnas("export", "uniform-t", "--format", "ncnn", "--out", str(tmp_path / "m.ncnn.param"))
    assert answer.code == 2
    assert "[ncnn]'" in answer.err


def test_a_checkout_that_is_not_installed_names_itself_instead_of_an_index(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nowhere(_: str) -> Any:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "distribution", nowhere)
    with pytest.raises(MissingPackageError, match=rf"pip install -e '?{re.escape(str(ROOT))}\[ray\]"):
        plugins.require("no_such_package", extra="ray")


def test_no_message_upgrades_from_an_index() -> None:
    """The name hwnas on an index need not be this hwnas."""
    sources = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "hwnas").rglob("*.py"))
    assert "pip install -U hwnas" not in sources
    assert "pip install hwnas" not in sources


# --- errors with --json -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "kind", "code"),
    [
        ("search --device rpi44 --budget 20ms --json", "UsageError", 2),
        ("search --device rpi4 --budget 1us --json", "InfeasibleError", 3),
        ("search --no-such-option --json", "UsageError", 2),
        ("describe nothing.yaml --json", "UsageError", 2),
    ],
)
def test_an_error_with_json_is_one_json_document(line: str, kind: str, code: int, hwnas: Hwnas) -> None:
    answer = hwnas(*shlex.split(line))
    document = json.loads(answer.out)
    assert document["schema"] == 1
    assert (document["error"]["type"], document["error"]["exit_code"], answer.code) == (kind, code, code)
    assert f"error: {document['error']['message']}" in answer.err


def test_a_document_that_was_printed_is_not_followed_by_another(hwnas: Hwnas, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("timm")
    assert hwnas("export", "uniform-t", "--out", str(tmp_path / "m.onnx")).code == 0
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    answer = hwnas("predict", str(tmp_path / "m.onnx"), str(tmp_path / "broken.jpg"), "--json")
    assert answer.code == 6
    assert json.loads(answer.out)["photos"] == []


# --- data -------------------------------------------------------------------------------------


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Class folders of 10, 11 and 1 images, without train and val."""
    for name, count in (("cats", 10), ("dogs", 11), ("owls", 1)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(count):
            (tmp_path / "photos" / name / f"{number}.jpg").write_bytes(b"x" * (number + 1))
    return tmp_path / "photos"


def test_a_folder_of_class_folders_is_split_and_a_fifth_is_held_out(flat: Path) -> None:
    from hwnas.data.sources import open_images

    images = open_images(flat)
    assert images.classes() == ("cats", "dogs", "owls")
    held = [image.class_name for image in images.split("val")]
    assert (held.count("cats"), held.count("dogs"), held.count("owls")) == (2, 2, 0)
    assert len(images.split("train")) + len(held) == 22
    assert "4 of its 22 images, a fifth of each class, are held out as val" in images.remark
    assert images.read(images.split("val")[0]).startswith(b"x")


def test_the_same_images_stay_held_out_when_others_are_added(flat: Path) -> None:
    from hwnas.data.sources import open_images

    before = {image.name for image in open_images(flat).split("val")}
    for number in range(100, 110):
        (flat / "cats" / f"{number}.jpg").write_bytes(b"y")
    after = {image.name for image in open_images(flat).split("val")}
    assert len(after) == 6
    assert len(before & after) >= 3


def test_the_hold_out_is_said_while_training(
    flat: Path, tmp_path: Path, hwnas: Hwnas, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("timm")
    import random

    from train_samples import ARCH, COLOURS, RECIPE, square_jpeg

    for index, folder in enumerate(sorted(flat.iterdir())):
        for number in range(10):
            colour = list(COLOURS.values())[index]
            (folder / f"{number}.jpg").write_bytes(square_jpeg(colour, random.Random(number)))
        (folder / "10.jpg").unlink(missing_ok=True)
    (tmp_path / "tiny.yaml").write_text(ARCH.to_yaml())
    (tmp_path / "quick.yaml").write_text(RECIPE.to_yaml())
    monkeypatch.chdir(tmp_path)
    answer = hwnas(*shlex.split(
        "train tiny.yaml --data photos --recipe quick.yaml --epochs 1 --accelerator cpu --out out"
    ))  # fmt: skip
    assert answer.code == 0, answer.err
    assert "6 of its 30 images, a fifth of each class, are held out as val" in answer.err
    assert main(["evaluate", "out", "--data", "photos", "--accelerator", "cpu"]) == 0


def test_a_parent_of_a_data_set_is_no_flat_folder(tmp_path: Path) -> None:
    from hwnas.data.sources import open_images
    from hwnas.errors import UsageError

    for split in ("train", "val"):
        (tmp_path / "set" / split / "cats").mkdir(parents=True)
        (tmp_path / "set" / split / "cats" / "1.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match="there are no images"):
        open_images(tmp_path)


def test_supernet_train_holds_back_what_fits_and_says_so() -> None:
    pytest.importorskip("timm")
    from hwnas.data.images import Image, Images
    from hwnas.supernet.images import fitting
    from hwnas.supernet.settings import Settings

    said: list[str] = []

    class Heard:
        def note(self, text: str) -> None:
            said.append(text)

        def step(self, progress: Any) -> None: ...
        def epoch(self, record: Any) -> None: ...

    few = tuple(Image(f"train/{n % 2}/{n}.jpg", "train", str(n % 2), 1, 0) for n in range(60))
    images = Images(Path("few"), few, ())
    assert fitting(Settings(), images, None, Heard()).held_back == 12
    assert said == ["12 of 60 training images are held back to measure accuracy on"]
    assert fitting(Settings(held_back=40), images, None, Heard()).held_back == 40, (
        "what was asked for is kept"
    )
    many = Images(Path("many"), few * 50, ())
    assert fitting(Settings(), many, None, Heard()).held_back == 1000


# --- searches ---------------------------------------------------------------------------------

FAILING = "def accuracy(arch):\n    raise ValueError('no such row')\n"


def test_an_accuracy_function_that_fails_shows_where_and_leaves_no_run(
    tmp_path: Path, hwnas: Hwnas, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no_such_row_accuracy.py").write_text(FAILING)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("HWNAS_TRACEBACK", "1")
    line = "search --device rpi4 --budget 20ms --accuracy no_such_row_accuracy:accuracy --trials 20"
    answer = hwnas(*shlex.split(line))
    assert answer.code == 2
    assert 'no_such_row_accuracy.py", line 2, in accuracy' in answer.err
    assert "ValueError: no such row" in answer.err
    assert not list(tmp_path.glob("runs/*")), "no empty run is left"


def test_the_accuracy_says_of_what(hwnas: Hwnas, tmp_path: Path) -> None:
    answer = hwnas(
        "search", "--device", "rpi4", "--budget", "20ms", "--trials", "60", "--out", str(tmp_path / "a")
    )
    assert "ImageNet-1K top-1 accuracy estimated by 'published'" in " ".join(answer.out.split())
    page = (tmp_path / "a" / "report.html").read_text()
    assert "ImageNet-1K top-1 accuracy, estimated" in page


def test_published_does_not_compare_small_image_sizes_and_says_what_it_orders_by(
    hwnas: Hwnas, tmp_path: Path
) -> None:
    line = (
        f"search --device rpi4 --budget 20ms --image-size 32 --stem-stride 4 --trials 60 --out {tmp_path}/a"
    )
    answer = hwnas(*shlex.split(line))
    assert answer.code == 0
    assert "It is no accuracy on your images" in " ".join((answer.err + answer.out).split())


def test_a_front_without_attention_and_a_space_that_ends_are_said(hwnas: Hwnas, tmp_path: Path) -> None:
    tight = hwnas("search", "--device", "rpi4", "--budget", "10ms", "--out", str(tmp_path / "a"))
    wide = hwnas("search", "--device", "rpi5", "--budget", "200ms", "--out", str(tmp_path / "b"))
    assert "has attention" in tight.out or "Attention on the front:" in tight.out
    assert "the search space ends before the budget" in wide.out
    assert "of 200 ms" in wide.out


@pytest.mark.parametrize("columns", [80, 60])
def test_the_table_of_a_search_fits_and_keeps_the_number_that_commands_need(
    columns: int, hwnas: Hwnas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    answer = hwnas(
        "search", "--device", "rpi4", "--budget", "20ms", "--trials", "200", "--out", str(tmp_path / "a")
    )
    rows = [line for line in answer.out.splitlines() if re.match(r"\s*\d+\s+[0-9a-f]{12}\s", line)]
    assert len(rows) > 3
    assert all(len(line) <= columns for line in rows)
    assert rows[0].split()[0] == "1"


def test_pandas_reads_the_candidates_and_decodes_an_architecture(hwnas: Hwnas, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    import hwnas as package

    path = tmp_path / "a"
    assert (
        hwnas("search", "--device", "rpi4", "--budget", "20ms", "--trials", "60", "--out", str(path)).code
        == 0
    )
    run = package.load_run(path)
    rows = pandas.read_json(path / "candidates.jsonl", lines=True).dropna(subset=["vector"])
    first = run.result.trials[0]
    row = rows[rows["id"] == first.id].iloc[0]
    assert run.space.decode([int(value) for value in row["vector"]]).id == first.id
    frame = run.front.to_frame()
    assert package.ArchSpec.from_dict(frame.loc[0, "arch"]).id == run.front[0].id
