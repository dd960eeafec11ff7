"""Every format that is exported computes in its runtime what torch computes, or is not written."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from nn_archs import PADDED_WINDOWS, SHVIT_LIKE, SMALL

import hwnas.export.deploy as deploy
from hwnas.errors import HwnasError, UsageError
from hwnas.export.timing.random_weights import randomise
from hwnas.nn import build
from hwnas.space import ArchSpec


def needs(model_format: str) -> None:
    pytest.importorskip(
        deploy.FORMATS[model_format].package, reason=f"the format {model_format} is checked by its runtime"
    )


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("model_format", deploy.FORMATS)
def test_a_format_gives_the_logits_of_torch(model_format: str, name: str) -> None:
    needs(model_format)
    network = randomise(build(SMALL[name])).eval()
    model = deploy.prepare(network, model_format=model_format)
    side = network.arch.resolution
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        expected = network(images).numpy()
    np.testing.assert_allclose(
        model.run(images.numpy()), expected, rtol=0, atol=2e-3 * np.abs(expected).max()
    )
    assert model.parity_max_abs is not None and model.parity_tolerance is not None
    assert model.parity_max_abs <= model.parity_tolerance


@pytest.mark.parametrize(
    ("model_format", "arch"),
    [("onnx", PADDED_WINDOWS), ("openvino", PADDED_WINDOWS), ("exported-program", SHVIT_LIKE)],
)
def test_a_free_batch_takes_any_number_of_images(model_format: str, arch: ArchSpec) -> None:
    needs(model_format)
    network = randomise(build(arch)).eval()
    model = deploy.prepare(network, model_format=model_format, batch="dynamic")
    for count in (1, 4):
        images = torch.randn(count, 3, arch.resolution, arch.resolution)
        with torch.no_grad():
            expected = network(images).numpy()
        np.testing.assert_allclose(model.run(images.numpy()), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("model_format", "files"),
    [
        ("onnx", {"m.onnx"}),
        ("openvino", {"m.xml", "m.bin"}),
        ("ncnn", {"m.param", "m.bin"}),
        ("litert", {"m.tflite"}),
        ("exported-program", {"m.pt2"}),
    ],
)
def test_a_format_is_written_as_its_runtime_reads_it(
    model_format: str, files: set[str], tmp_path: Path
) -> None:
    needs(model_format)
    network = randomise(build(SHVIT_LIKE)).eval()
    model = deploy.prepare(network, model_format=model_format)
    written = deploy.write(model, tmp_path / f"m{deploy.FORMATS[model_format].suffix}")
    assert {file.name for file in tmp_path.iterdir()} == files == {file.name for file in written}
    assert model.size_bytes == sum(file.stat().st_size for file in written)
    images = torch.randn(1, 3, 32, 32)
    np.testing.assert_allclose(
        _loaded(model_format, written[-1], images), model.run(images.numpy()), atol=1e-5
    )


def _loaded(model_format: str, path: Path, images: torch.Tensor) -> Any:
    """The logits of the files, as a user of the runtime gets them."""
    if model_format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return session.run(None, {"images": images.numpy()})[0]
    if model_format == "openvino":
        import openvino

        return openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(
            images.numpy()
        )[0]
    if model_format == "ncnn":
        import ncnn

        net = ncnn.Net()
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
        assert net.load_param(str(path)) == net.load_model(str(path.with_suffix(".bin"))) == 0
        extractor = net.create_extractor()
        extractor.input("images", ncnn.Mat(images[0].numpy()).clone())
        return np.array(extractor.extract("logits")[1])[None]
    if model_format == "litert":
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter(str(path)).get_signature_runner()(images=images.numpy())["logits"]
    with torch.no_grad():
        return torch.export.load(path).module()(images).numpy()


@pytest.mark.parametrize("model_format", deploy.FORMATS)
def test_a_format_out_of_parity_is_refused_by_name(model_format: str) -> None:
    needs(model_format)
    network = build(SHVIT_LIKE)
    network.get_parameter("head.linear.weight").data.fill_(math.nan)
    with pytest.raises(HwnasError, match=f"{model_format}: the exported network must agree with torch"):
        deploy.prepare(network, model_format=model_format)


def test_the_commands_help_names_every_format(hwnas: Callable[..., Any]) -> None:
    shown = re.sub(r"-\s+", "-", hwnas("export", "--help").out)  # names may be wrapped at their hyphen
    text = re.sub(r"\W+", " ", shown.replace("exported-program", "exported_program"))
    assert all(name.replace("-", "_") in text.split() for name in deploy.FORMATS)


def test_what_cannot_be_exported_is_refused() -> None:
    network = build(SHVIT_LIKE)
    with pytest.raises(
        UsageError, match="--format must be one of onnx, openvino, ncnn, litert, exported-program"
    ):
        deploy.prepare(network, model_format="tflite")
    with pytest.raises(UsageError, match="int8 is exported to onnx only"):
        deploy.prepare(network, model_format="openvino", calibration=[])
    with pytest.raises(UsageError, match="ncnn: batch must be 1"):
        deploy.prepare(network, model_format="ncnn", batch="dynamic")
    with pytest.raises(UsageError, match="needs a fixed batch for a network with windows"):
        deploy.prepare(build(PADDED_WINDOWS), model_format="exported-program", batch="dynamic")


def test_int8_is_near_fp32_on_images_like_those_it_was_calibrated_on() -> None:
    network = randomise(build(SHVIT_LIKE)).eval()
    rng = np.random.default_rng(0)
    images = rng.standard_normal((16, 3, 32, 32), dtype=np.float32)
    int8 = deploy.prepare(network, calibration=[images[i : i + 1] for i in range(16)])
    onnx.checker.check_model(onnx.load_from_string(int8.files[".onnx"]), full_check=True)
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    assert b"QuantizeLinear" in int8.files[".onnx"] and int8.precision == "int8"
    assert 0 < np.abs(int8.run(images) - expected).max() < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("model_format", deploy.FORMATS)
def test_a_files_ending_must_be_that_of_its_format(model_format: str, tmp_path: Path) -> None:
    form = deploy.FORMATS[model_format]
    deploy.check_path(tmp_path / f"model{form.ending}", model_format)
    for name in ("model", "model.pt", "model.bin"):
        with pytest.raises(UsageError, match=re.escape(f"ends in {form.suffix}")):
            deploy.check_path(tmp_path / name, model_format)


def test_a_runtime_that_cannot_run_a_network_is_named_and_nothing_is_written() -> None:
    needs("ncnn")
    tiny = ArchSpec.from_yaml(
        """
format: 1
resolution: 32
stem: {stride: 8}
head: {classes: 4}
stages:
- {width: 32, blocks: [{type: single-head, channels: 8}]}
- {width: 48, blocks: [{type: reuse, heads: 2, kernels: [3, 5]}]}
- {width: 64, blocks: [{type: cascaded-group, heads: 2, kernels: [5, 3]}]}
"""
    )  # the last map has one position, which ncnn refuses
    with pytest.raises(HwnasError, match="ncnn cannot run this network.*no file was written"):
        deploy.prepare(build(tiny), model_format="ncnn")
