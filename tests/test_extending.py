"""The worked examples of docs/extending.md: packages of one's own, found by their entry points."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def installed(folder: Path, name: str, points: dict[str, dict[str, str]]) -> None:
    """Makes a package in `folder` known by its entry points, as pip does."""
    info = folder / f"{name}-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    lines = [f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in each.items())
             for group, each in points.items()]  # fmt: skip
    (info / "entry_points.txt").write_text("\n".join(lines))


def python(program: str, *folders: Path) -> Any:
    """What a program of its own process prints, as JSON."""
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests", *folders)))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def own_attention(tmp_path: Path) -> Path:
    project = tomllib.loads((EXAMPLES / "own_attention" / "pyproject.toml").read_text())["project"]
    installed(tmp_path, "hwnas_linear_attention", project["entry-points"])
    return tmp_path


def test_an_own_attention_is_described_counted_built_trained_and_exported(own_attention: Path) -> None:
    pytest.importorskip("onnxruntime")
    found = python(
        f"""
        import json
        from pathlib import Path
        import torch
        import hwnas
        from hwnas.export.deploy import prepare
        from hwnas.nn import build
        from hwnas.space import count_params, lower
        arch = hwnas.ArchSpec.from_yaml(Path({str(EXAMPLES / "own_attention" / "arch.yaml")!r}).read_text())
        network = build(arch)
        images = torch.randn(2, 3, 64, 64)
        network(images).sum().backward()
        ops = lower(arch)
        table = hwnas.LatencyTable.load("rpi4")
        print(json.dumps({{
            "types": sorted({{op.kind for op in ops}}),
            "counted": count_params(ops),
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "logits": list(network.eval()(images).shape),
            "ms": table.predict(arch).value,
            "parity": prepare(network).parity_max_abs,
            "again": hwnas.ArchSpec.from_dict(arch.to_dict()).id == arch.id,
        }}))
        """,
        own_attention,
        EXAMPLES / "own_attention",
    )
    assert "linear" in found["types"]
    assert found["counted"] == found["parameters"]
    assert found["logits"] == [2, 10]
    assert found["ms"] > 0
    assert found["parity"] < 1e-3
    assert found["again"]


def test_without_the_package_its_attention_is_unknown() -> None:
    from hwnas import ArchSpec
    from hwnas.errors import ArchError

    with pytest.raises(ArchError, match="no attention 'linear'"):
        ArchSpec.from_yaml((EXAMPLES / "own_attention" / "arch.yaml").read_text())


def test_an_own_runtime_computes_what_onnxruntime_computes(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("timm")
    installed(tmp_path, "own_runtime", {"hwnas.runtimes": {"onnx-reference": "own_runtime"}})
    found = python(
        """
        import json
        import numpy as np
        from train_samples import ARCH
        from hwnas import plugins
        from hwnas.board.install import packages
        from hwnas.export.deploy import prepare
        from hwnas.nn import build
        model = prepare(build(ARCH)).files[".onnx"]
        options = {"threads": 1, "batch": 1, "precision": "fp32"}
        own, other = (plugins.load("runtimes", name) for name in ("onnx-reference", "onnxruntime"))
        one, two = (runtime.prepare(model, **options).outputs()[0] for runtime in (own, other))
        file = str(plugins.file_of("runtimes", "onnx-reference"))
        print(json.dumps({
            "difference": float(np.abs(one - two).max()),
            "missing": own.probe()["missing"],
            "file": file,
            "packages": packages("onnx-reference", file),
        }))
        """,
        tmp_path,
        EXAMPLES,
    )
    assert found["difference"] < 1e-4
    assert found["missing"] is None
    assert found["file"] == str(EXAMPLES / "own_runtime.py")
    assert found["packages"] == ["numpy", "onnx"], "never a package by the plug-in's name"


def test_an_own_estimator_is_named_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "by_macs.py").write_text(
        textwrap.dedent(
            """
            from hwnas import Estimate
            from hwnas.space import count_macs, lower

            class ByMacs:
                unit = "%"
                cheap = True

                def predict(self, arch):
                    return Estimate(50 + count_macs(lower(arch)) / 1e8, std=1.0, unit="%")

            def estimator(argument=None):
                return ByMacs()
            """
        )
    )
    installed(tmp_path, "by_macs", {"hwnas.predictors.accuracy": {"by-macs": "by_macs"}})
    found = python(
        """
        import json
        from hwnas.api import search
        run = search(targets={"rpi4": "20ms"}, accuracy="by-macs", trials=20, seed=0)
        print(json.dumps({"name": run.result.config.accuracy, "best": run.front[0].accuracy.value}))
        """,
        tmp_path,
    )
    assert found["name"] == "by-macs"
    assert found["best"] > 50


def test_an_own_format_is_checked_against_torch_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("timm")
    import runpy

    from hwnas.export.formats import FORMATS

    known = dict(FORMATS)
    monkeypatch.chdir(tmp_path)
    try:
        runpy.run_path(str(EXAMPLES / "own_format.py"), run_name="__main__")
    finally:
        FORMATS.clear()
        FORMATS.update(known)
    assert (tmp_path / "model.onnxgz").stat().st_size > 10_000
    assert "largest difference from torch" in capsys.readouterr().out


def test_every_code_line_of_the_page_is_in_its_example() -> None:
    """The page quotes the examples; what it quotes is there word for word."""
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    sources = "\n".join(file.read_text(encoding="utf-8") for file in EXAMPLES.rglob("*.py"))
    sources += (EXAMPLES / "own_attention" / "pyproject.toml").read_text(encoding="utf-8")
    squeezed = "".join(sources.split())
    for line in page.splitlines():
        if line.startswith("    ") and not line.strip().startswith(
            ("hwnas ", "[project", "run =", "onnx-ref")
        ):
            assert "".join(line.split()).rstrip(",)") in squeezed, line
