"""LiteRT: .tflite files that give torch's logits, say how they are used, and are timed.

Converting needs litert-torch and running ai-edge-litert (`pip install 'hwnas[litert]'`, several GB): tests
that do either are skipped where they are not installed.
"""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nn_archs import SMALL
from photos import answers_of, photographs, program_of
from train_samples import ARCH, COLOURS, RECIPE

from hwnas import plugins
from hwnas.data.decoding import decode
from hwnas.errors import HwnasError, UsageError
from hwnas.export import deploy
from hwnas.export.card_program import program
from hwnas.export.metadata import attach, metadata_in, of_classifier
from hwnas.export.prediction import ClassesFound, Predictor
from hwnas.export.timing import exporter
from hwnas.export.timing.random_weights import randomise
from hwnas.nn import build
from hwnas.space import lower
from hwnas.train import checkpoint
from hwnas.train.checkpoint import Checkpoint

THERE = all(importlib.util.find_spec(name) for name in ("litert_torch", "ai_edge_litert"))
converts = pytest.mark.skipif(not THERE, reason="needs pip install 'hwnas[litert]'")
converts_not = pytest.mark.skipif(THERE, reason="needs an environment without hwnas[litert]")
CLASSES = tuple(sorted(COLOURS))


# --- without the packages ----------------------------------------------------------------------


def metadata() -> Any:
    return of_classifier(
        "net", ARCH, model_format="litert", precision="fp32", batch=1, preprocess="outside", trained=None
    )


def test_the_metadata_lies_beside_the_file_and_is_found_there(tmp_path: Path) -> None:
    files = attach(metadata(), {".tflite": b"model"})
    assert list(files)[-1] == ".tflite" and files[".tflite"] == b"model"
    path = tmp_path / "net.tflite"
    for suffix, content in files.items():
        path.with_suffix(suffix).write_bytes(content)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.tflite", "net.tflite.json"]
    assert metadata_in(path) == metadata()


def test_the_cards_program_is_python_that_asks_for_the_signature() -> None:
    about = metadata()
    card = {
        "task": "classify", "format": "litert", "files": ["net.tflite"], "preprocess": "outside",
        "preprocessing": about.preprocessing.to_dict(), "input": about.input.to_dict(),
        "outputs": [output.to_dict() for output in about.outputs], "classes_names": list(CLASSES),
    }  # fmt: skip
    code = program(card)
    assert code is not None and 'logits = network(images=images)["logits"]' in code
    compile(code, "card", "exec")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"precision": "int8"}, "precision must be one of fp32, got 'int8'"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"provider": "gpu"}, "provider must be cpu, got 'gpu'"),
    ],
)
def test_the_runtime_refuses_what_it_does_not_have(wrong: Mapping[str, Any], told: str) -> None:
    settings: dict[str, Any] = {"threads": 1, "batch": 1, "precision": "fp32"} | dict(wrong)
    with pytest.raises(ValueError, match=told):
        plugins.load("runtimes", "litert").prepare(b"", **settings)


def test_only_the_runtime_itself_goes_to_a_board() -> None:
    from hwnas.board.install import packages

    file = str(plugins.file_of("runtimes", "litert"))
    assert packages("litert", file) == ("numpy", "ai-edge-litert")


@converts_not
@pytest.mark.parametrize(
    "words", [("export", "uniform-t", "--format", "litert"), ("measure", "uniform-t", "--runtime", "litert")]
)
def test_without_the_extra_a_command_says_how_to_install_it(
    words: tuple[str, ...], hwnas: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = hwnas(*words)
    assert answer.code == 2
    assert "pip install" in answer.err and "litert" in answer.err
    assert list(tmp_path.iterdir()) == []


# --- with them ---------------------------------------------------------------------------------


@converts
@pytest.mark.parametrize("name", SMALL)
def test_a_file_gives_torchs_logits(name: str) -> None:
    made = deploy.prepare(randomise(build(SMALL[name])).eval(), model_format="litert", batch=2)
    assert made.parity_max_abs is not None and made.parity_tolerance is not None
    assert made.parity_max_abs <= made.parity_tolerance
    images = (
        np.random.default_rng(1).standard_normal((3, 3, *[SMALL[name].resolution] * 2)).astype(np.float32)
    )
    with torch.no_grad():
        expected = randomise(build(SMALL[name])).eval()(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(made.run(images), expected, atol=1e-3 * np.abs(expected).max())


@converts
def test_a_free_number_of_images_is_refused() -> None:
    network = randomise(build(next(iter(SMALL.values())))).eval()
    with pytest.raises(UsageError, match="fixed batch, got 'dynamic'"):
        deploy.prepare(network, model_format="litert", batch="dynamic")


def operators(model: bytes) -> Counter[Any]:
    """Kinds of operators with the shapes of what they give, but those that only lay values out anew."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, experimental_preserve_all_tensors=True)
    shapes = {item["index"]: tuple(item["shape"]) for item in interpreter.get_tensor_details()}
    return Counter(
        (op["op_name"], tuple(sorted(shapes[int(op["outputs"][0])])))
        for op in interpreter._get_ops_details()
        if op["op_name"] not in ("TRANSPOSE", "RESHAPE", "DELEGATE")
    )


@converts
@pytest.mark.parametrize("name", SMALL)
def test_a_network_is_the_operators_of_its_ops(name: str) -> None:
    arch = SMALL[name]
    whole = operators(deploy.prepare(randomise(build(arch)).eval(), model_format="litert").files[".tflite"])
    to_model = exporter("litert", "fp32")
    parts: Counter[Any] = Counter()
    for op in lower(arch):
        parts += operators(to_model.op_model(op, batch=1))
    assert parts == whole


@pytest.fixture
def exported(hwnas: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint's file, m.tflite, in the working folder."""
    network = randomise(build(ARCH.adapted(classes=3)), seed=3)
    saved = Checkpoint(
        dict(network.state_dict()), CLASSES, RECIPE, (), arch=ARCH.adapted(classes=3), name="net"
    )
    (tmp_path / "mine").mkdir()
    checkpoint.save(saved, tmp_path / "mine" / checkpoint.BEST)
    monkeypatch.chdir(tmp_path)
    answer = hwnas("export", "mine", "--format", "litert", "--out", "m.tflite")
    assert answer.code == 0, answer.err
    assert "LiteRT within" in answer.out
    return tmp_path


@converts
def test_predict_and_the_cards_program_answer_as_torch(exported: Path) -> None:
    trained = checkpoint.load(exported / "mine")
    network = checkpoint.trained_network(trained)
    photos = photographs(exported / "photos", 10)
    predictor = Predictor.open(exported / "m.tflite")
    best = []
    for file in photos:
        photo = decode(file.read_bytes())
        images = torch.from_numpy(predictor.metadata.preprocessing.prepared(photo).images)
        with torch.no_grad():
            expected = network(images).softmax(1)[0].numpy()
        found = predictor(photo)
        assert isinstance(found, ClassesFound)
        np.testing.assert_allclose(found.probabilities, expected, atol=1e-4)
        best.append(CLASSES[int(expected.argmax())])
    card = exported / "m.tflite.card.md"
    assert [answer.strip() for answer in answers_of(program_of(card), exported, photos)] == best


@converts
def test_a_file_is_measured_as_it_is(exported: Path, hwnas: Callable[..., Any]) -> None:
    """Timed for real; no time is judged."""
    answer = hwnas("measure", "m.tflite", "--rounds", "1", "--json")
    assert answer.code == 0, answer.err
    document = json.loads(answer.out)
    assert document["runtime"] == "litert" and document["networks"][0]["form"] == "litert"
    (row,) = json.loads(Path("m.tflite.card.json").read_text())["latency"]["measured"]
    assert (row["of"], row["runtime"]) == ("this file", "litert")


@converts
def test_a_file_that_is_no_model_is_named(exported: Path) -> None:
    Path("m.tflite").write_bytes(b"nonsense")
    with pytest.raises(HwnasError, match=r"m\.tflite: .*cannot read this file"):
        Predictor.open(Path("m.tflite"))
