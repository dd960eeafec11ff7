"""quantise(model, batches): an ONNX model in int8, by static quantisation for ONNX Runtime's CPU.

Weights become signed int8, one scale a channel; activations unsigned int8, one scale and zero point
a tensor (on x86 ONNX Runtime has kernels for that pairing, not for signed activations). The model
keeps its nodes with QuantizeLinear and DequantizeLinear around them, and the runtime fuses these.
Float stay LayerNormalization and GELU.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from hwnas import plugins

__all__ = ["quantise", "quantise_op"]

Array = NDArray[np.float32]

_QUANTISED = (
    "Conv",
    "Gemm",
    "MatMul",
    "Add",
    "Mul",
    "Concat",
    "Split",
    "Slice",
    "Pad",
    "Reshape",
    "Transpose",
    "Relu",
    "Sigmoid",
    "Softmax",
    "MaxPool",
    "GlobalAveragePool",
)


def quantise(model: bytes, batches: Iterable[Array]) -> bytes:
    """The model in int8; `batches`, each a value of its only input, show how large activations get.

    A scale covers the smallest and the largest value that were seen. Input and output stay float.
    """
    return bytes(_quantised(model, batches).SerializeToString(deterministic=True))


def quantise_op(model: bytes, batches: Iterable[Array], *, first: bool = False, last: bool = False) -> bytes:
    """The int8 model of one op, as it is within a network: it takes and gives int8, channels last.

    ONNX Runtime lays quantised convolutions out so, and keeps it between ops. The input of the
    `first` op of a network stays float, and so does the output of the `last`.
    """
    quantised = _quantised(model, batches)
    if not first:
        _take_int8(quantised.graph)
    if not last:
        _give_int8(quantised.graph)
    return bytes(quantised.SerializeToString(deterministic=True))


def _quantised(model: bytes, batches: Iterable[Array]) -> onnx.ModelProto:
    plugins.require("onnxruntime", extra="torch")
    from onnxruntime import quantization

    typed = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(model))
    quantizer = quantization.QDQQuantizer(
        typed,
        per_channel=True,
        reduce_range=False,
        weight_qType=quantization.QuantType.QInt8,
        activation_qType=quantization.QuantType.QUInt8,
        tensors_range=_ranges(typed, batches),
        nodes_to_quantize=[],
        nodes_to_exclude=_gelu_nodes(typed.graph),
        op_types_to_quantize=list(_QUANTISED),
        extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()  # as the standard asks for: other clients insist on it
    quantised: onnx.ModelProto = quantizer.model.model
    del quantised.graph.value_info[:]
    return quantised


def _ranges(model: onnx.ModelProto, batches: Iterable[Array]) -> Any:
    """The range of every float tensor, in the form that the quantizer takes."""
    ort = plugins.require("onnxruntime", extra="torch")
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData

    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    given = {output.name for output in shown.graph.output}
    for node in shown.graph.node:
        shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name not in given)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # or names disappear
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]
    ranges: dict[str, tuple[Any, Any]] = {}
    for batch in batches:
        values = [batch, *session.run(names, {source.name: batch})]
        for name, value in zip([source.name, *names], values, strict=True):
            low, high = ranges.get(name, (value.flat[0], value.flat[0]))
            ranges[name] = min(low, value.min()), max(high, value.max())
    data = {name: TensorData(lowest=low, highest=high) for name, (low, high) in ranges.items()}
    return TensorsData(CalibrationMethod.MinMax, data)


def _gelu_nodes(graph: onnx.GraphProto) -> list[str]:
    """The nodes of GELUs: what gives Erf its input, and the three after it."""
    makers = {output: node for node in graph.node for output in node.output}
    users = {value: node for node in graph.node for value in node.input}
    found = []
    for erf in graph.node:
        if erf.op_type == "Erf":
            chain = [makers[erf.input[0]], erf]
            while len(chain) < 5:
                chain.append(users[chain[-1].output[0]])
            found += [node.name for node in chain]
    return found


def _take_int8(graph: onnx.GraphProto) -> None:
    """The input becomes what QuantizeLinear makes of it, transposed from channels last."""
    (source,) = graph.input
    (quantize,) = (node for node in graph.node if source.name in node.input)
    batch, c, h, w = (side.dim_value for side in source.type.tensor_type.shape.dim)
    graph.node.remove(quantize)
    name = quantize.output[0]
    graph.node.insert(0, helper.make_node("Transpose", [source.name], [name], perm=[0, 3, 1, 2]))
    source.CopyFrom(helper.make_tensor_value_info(source.name, TensorProto.UINT8, [batch, h, w, c]))


def _give_int8(graph: onnx.GraphProto) -> None:
    """The output becomes what DequantizeLinear made of it, transposed to channels last."""
    (output,) = graph.output
    (dequantize,) = (node for node in graph.node if output.name in node.output)
    batch, c, h, w = (side.dim_value for side in output.type.tensor_type.shape.dim)
    graph.node.remove(dequantize)
    graph.node.append(helper.make_node("Transpose", [dequantize.input[0]], [output.name], perm=[0, 2, 3, 1]))
    output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.UINT8, [batch, h, w, c]))
