"""Files from elsewhere that would run code, or open other files, when a runtime loads them."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from hwnas.errors import FileFormatError
from hwnas.export.foreign_files import require_safe, require_whole
from hwnas.export.formats import FORMATS, Wanted
from hwnas.export.timing.random_weights import randomise
from hwnas.nn import build
from hwnas.runtimes.torch import check_program, load_program
from hwnas.space import preset


@cache
def program(batch: int | str = 1) -> bytes:
    network = randomise(build(preset("shvit-s1").adapted(resolution=64))).eval()
    return FORMATS["exported-program"].writer(network, Wanted(batch, 17))[".pt2"]  # type: ignore[arg-type]


def changed(change: Callable[[dict[str, bytes]], None]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(program())) as archive:
        files = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(files)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"archive/{name}", content)
    return stream.getvalue()


class Runs:
    def __reduce__(self) -> tuple[object, ...]:
        return (open, ("/tmp/hwnas-code-ran", "w"))


def saved(what: object) -> bytes:
    stream = io.BytesIO()
    torch.save(what, stream)
    return stream.getvalue()


def config_of(files: dict[str, bytes], folder: str) -> str:
    return next(name for name in files if name.startswith(f"data/{folder}/") and name.endswith(".json"))


def pickled_weight(files: dict[str, bytes]) -> None:
    name = config_of(files, "weights")
    document = json.loads(files[name])
    entry = next(iter(document["config"].values()))
    entry["use_pickle"] = True
    files[name] = json.dumps(document).encode()
    files[f"data/weights/{entry['path_name']}"] = saved(Runs())


def constant(path_name: str) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        name = config_of(files, "constants")
        document = json.loads(files[name])
        document["config"]["evil"] = {"path_name": path_name, "use_pickle": False, "is_param": False}
        files[name] = json.dumps(document).encode()
        files[f"data/constants/{path_name}"] = pickle.dumps(Runs())

    return change


def sample_input(content: bytes) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        files[next(name for name in files if name.startswith("data/sample_inputs/"))] = content

    return change


def graph(old: str, new: str) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        text = files["models/model.json"].decode()
        assert old in text
        files["models/model.json"] = text.replace(old, new, 1).encode()

    return change


def more(name: str) -> Callable[[dict[str, bytes]], None]:
    return lambda files: files.update({name: saved(Runs())})


ATTACKS = {
    "a weight that is a pickle": pickled_weight,
    "a constant that is a script object": constant("custom_obj_0"),
    "a constant that is an opaque object": constant("opaque_obj_0"),
    "a sample input that runs code": sample_input(saved(Runs())),
    "a sample input that is a bare pickle": sample_input(pickle.dumps(Runs())),
    "weights of the earlier format": more("data/weights/model.pt"),
    "constants of the earlier format": more("data/constants/model.pt"),
    "a compiled library": more("data/aotinductor/model/model.so"),
    "another operator": graph('"torch.ops.aten.conv2d.default"', '"torch.hub.load"'),
    "a name twice but for case": more("models/MODEL.json"),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_an_archive_that_may_run_code_is_refused_before_it_is_loaded(
    attack: Callable[[dict[str, bytes]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.export, "load", lambda *_, **__: pytest.fail("loaded"))
    model = changed(attack)
    with pytest.raises(ValueError):
        load_program(model)
    with pytest.raises(FileFormatError):
        require_safe({".pt2": model}, Path("model.pt2"))


@pytest.mark.parametrize("expression", ["__import__('os').system('true')", "open('x')", "exit(1)"])
def test_an_expression_that_is_python_is_refused(expression: str) -> None:
    def change(files: dict[str, bytes]) -> None:
        document = json.loads(files["models/model.json"])
        document["evil"] = {"as_expr": {"expr_str": expression}}
        files["models/model.json"] = json.dumps(document).encode()

    with pytest.raises(ValueError, match="is not an operator that hwnas exports"):
        check_program(changed(change))


def test_an_archive_of_the_earlier_layout_is_refused() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("version", "8.8")
        archive.writestr("serialized_state_dict.pt", saved(Runs()))
    with pytest.raises(ValueError):
        check_program(stream.getvalue())


@pytest.mark.parametrize("batch", [1, 4, "dynamic"])
def test_what_hwnas_exports_is_loaded(batch: int | str) -> None:
    images = torch.zeros(2 if batch == "dynamic" else int(batch), 3, 64, 64)
    assert load_program(program(batch)).module()(images).shape[0] == len(images)


def test_an_archive_with_nothing_changed_but_its_packing_is_loaded() -> None:
    check_program(changed(lambda files: None))


def test_an_archive_that_is_compressed_or_damaged_inside_is_refused() -> None:
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(program())) as old,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(ValueError, match="compressed"):
        check_program(stream.getvalue())
    whole = bytearray(program())
    whole[whole.index(b'"torch.ops.aten.') + 1] ^= 1
    with pytest.raises(FileFormatError, match="is damaged: Bad CRC-32"):
        require_safe({".pt2": bytes(whole)}, Path("model.pt2"))


@pytest.mark.parametrize("location", ["/etc/passwd", "../weights.bin", "weights.bin"])
def test_an_onnx_model_with_tensors_elsewhere_is_refused(location: str) -> None:
    tensor = onnx.numpy_helper.from_array(np.zeros(4, np.float32), "w")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    onnx.external_data_helper.set_external_data(
        tensor, location
    ) if tensor.raw_data else tensor.external_data.add(key="location", value=location)
    value = onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [4])
    for inside in (False, True):
        initializers, nodes = (
            ([], [onnx.helper.make_node("Constant", [], ["w"], value=tensor)]) if inside else ([tensor], [])
        )
        model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], [value], initializers))
        with pytest.raises(FileFormatError, match="keeps its tensors in other files"):
            require_whole(model.SerializeToString(), Path("model.onnx"))


def test_an_onnx_model_with_the_word_in_it_is_taken() -> None:
    value = onnx.helper.make_tensor_value_info("location", onnx.TensorProto.FLOAT, [4])
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [value], [value]))
    require_whole(model.SerializeToString(), Path("model.onnx"))
