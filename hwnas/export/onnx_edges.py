"""What is put before and after an exported ONNX graph: normalisation of pixels, softmax, boxes of a detector.

They are added to the finished model, fp32 or int8, so that they are never quantised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hwnas.data.preprocessing import Preprocessing

__all__ = ["PHOTOS", "PROBABILITIES", "with_boxes", "with_pixels_in", "with_probabilities"]

PHOTOS, PROBABILITIES = "photos", "probabilities"
MAX_GROWTH = float(np.log(1000 / 16))
"""Limit of a box's logarithmic growth, as in torchvision's box coder."""


def with_pixels_in(data: bytes, preprocessing: Preprocessing) -> bytes:
    """The model with the input `photos`, uint8 (N, H, W, 3), in place of normalised (N, 3, H, W)."""
    model = onnx.load_model_from_string(data)
    graph = model.graph
    (source,) = graph.input
    batch, _, height, width = source.type.tensor_type.shape.dim
    sides = [batch.dim_param or batch.dim_value, height.dim_value, width.dim_value, 3]
    mean, std = (np.array(v, np.float64).reshape(1, 3, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    scale = _constant(graph, "pixels/scale", 1 / (preprocessing.divide_by * std))
    shift = _constant(graph, "pixels/shift", -mean / std)
    before = [
        helper.make_node("Cast", [PHOTOS], ["pixels/float"], name="pixels/Cast", to=TensorProto.FLOAT),
        helper.make_node(
            "Transpose", ["pixels/float"], ["pixels/planes"], name="pixels/Transpose", perm=[0, 3, 1, 2]
        ),
        helper.make_node("Mul", ["pixels/planes", scale], ["pixels/scaled"], name="pixels/Mul"),
        helper.make_node("Add", ["pixels/scaled", shift], [source.name], name="pixels/Add"),
    ]
    for position, node in enumerate(before):
        graph.node.insert(position, node)
    source.CopyFrom(helper.make_tensor_value_info(PHOTOS, TensorProto.UINT8, sides))
    return _serialised(model)


def with_probabilities(data: bytes) -> bytes:
    """The model with the output `probabilities`, the softmax of its logits."""
    model = onnx.load_model_from_string(data)
    (output,) = model.graph.output
    model.graph.node.append(
        helper.make_node("Softmax", [output.name], [PROBABILITIES], name="probabilities/Softmax", axis=1)
    )
    output.name = PROBABILITIES
    return _serialised(model)


def with_boxes(data: bytes, anchors: NDArray[np.float32], classes: int) -> bytes:
    """The model with `boxes` (1, A, 4) and `scores` (1, A, classes) in place of a detector's raw outputs.

    Raw are `class_logits` (1, A, classes + 1), the first of which is nothing's, and `box_offsets`
    (1, A, 4), to the `anchors` (A, 4). Boxes are left, top, right, bottom in pixels of the input; they are
    not cut at its edges. As torchvision's BoxCoder with weights 1.
    """
    model = onnx.load_model_from_string(data)
    graph = model.graph
    logits, offsets = (output.name for output in graph.output)
    sides = anchors[:, 2:] - anchors[:, :2]
    own_sides = _constant(graph, "boxes/anchor_sides", sides[None])
    own_centres = _constant(graph, "boxes/anchor_centres", (anchors[:, :2] + 0.5 * sides)[None])
    limit = _constant(graph, "boxes/max_growth", np.array(MAX_GROWTH))
    half = _constant(graph, "boxes/half", np.array(0.5))
    first, last = _integers(graph, "boxes/first", [1]), _integers(graph, "boxes/last", [classes + 1])
    class_axis, two = _integers(graph, "boxes/axis", [2]), _integers(graph, "boxes/two_two", [2, 2])

    def add(kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> None:
        name = f"boxes/{kind}_{len(graph.node)}"
        graph.node.append(helper.make_node(kind, inputs, outputs, name=name, **attributes))

    add("Slice", [logits, first, last, class_axis], ["boxes/logits"])
    add("Sigmoid", ["boxes/logits"], ["scores"])
    add("Split", [offsets, two], ["boxes/moves", "boxes/growths"], axis=2)
    add("Mul", ["boxes/moves", own_sides], ["boxes/moved"])
    add("Add", ["boxes/moved", own_centres], ["boxes/centres"])
    add("Min", ["boxes/growths", limit], ["boxes/limited"])
    add("Exp", ["boxes/limited"], ["boxes/factors"])
    add("Mul", ["boxes/factors", own_sides], ["boxes/sides"])
    add("Mul", ["boxes/sides", half], ["boxes/halves"])
    add("Sub", ["boxes/centres", "boxes/halves"], ["boxes/low"])
    add("Add", ["boxes/centres", "boxes/halves"], ["boxes/high"])
    add("Concat", ["boxes/low", "boxes/high"], ["boxes"], axis=2)
    del graph.output[:]
    graph.output.extend(
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, len(anchors), 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, len(anchors), classes]),
        ]
    )
    return _serialised(model)


def _constant(graph: onnx.GraphProto, name: str, values: NDArray[Any]) -> str:
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))
    return name


def _integers(graph: onnx.GraphProto, name: str, values: Sequence[int]) -> str:
    graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    return name


def _serialised(model: onnx.ModelProto) -> bytes:
    data: bytes = model.SerializeToString(deterministic=True)
    return data
