"""Candidate forms against the deployed ones, on whole networks, timed in turns in one process.

    python benchmarks/faster_forms.py [--runtime R] [--precision fp32|int8] [--models NAME ...] [--threads N]
        [--rounds N] [--only WORD] [--json FILE]

For each network: the deployment graph; the same with one op kind in another of its forms, for every kind
and form (`hwnas/export/forms.py`), which is how a line of FORMS in `hwnas/export/deployment_graph.py` is
decided; and all ops in their reference form. On onnxruntime also rewritten graphs of the deployed fp32 file
(`REWRITES` below) and, in int8, ONNX Runtime's own static quantisation of that file and hwnas's with fewer
kinds of nodes quantised.

Shown are medians in milliseconds and the median ratio of the candidate's time to the deployed one's, with
its 95 % interval: below 1 it is faster. A candidate whose output is not the deployed one's is named and not
timed. Run it alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import latency_output as output
import numpy as np
import onnx
from export_latency import _in_turns, plain_int8
from onnx import helper, numpy_helper

from hwnas.board.timing import median, median_interval
from hwnas.export import quantise as quantising
from hwnas.export.deployment_graph import GRAPH, forms_of
from hwnas.export.forms import REFERENCE, form_names, in_form
from hwnas.export.onnx_graph import network_graph
from hwnas.export.quantise import quantise
from hwnas.export.timing import one_thread
from hwnas.export.timing.random_weights import randomise
from hwnas.nn.folding import fold
from hwnas.nn.network import Network, build
from hwnas.space import preset

_MODELS = ("uniform-t", "efficientvit-m0", "shvit-s1")
_TOLERANCE = {"fp32": 1e-3, "int8": 0.3}  # of outputs, over the largest


def in_forms(name: str, forms: Mapping[str, str]) -> Network:
    """The network with each op kind in the form that is named for it, else in its reference form."""
    network = fold(randomise(build(preset(name))).eval())
    for op in network.ops:
        parent, _, own = op.place.rpartition(".")
        module = in_form(network.get_submodule(op.place), op.kind, forms.get(op.kind, REFERENCE))
        setattr(network.get_submodule(parent), own, module)
    return network


def by_form(name: str, present: Mapping[str, str]) -> dict[str, Mapping[str, str]]:
    """Forms by candidate: the deployed ones first, then each kind in another form, then all references."""
    kinds = dict.fromkeys(op.kind for op in build(preset(name)).ops)
    found: dict[str, Mapping[str, str]] = {"deployed": present}
    for kind in kinds:
        for form in form_names(kind):
            if form != present.get(kind, REFERENCE):
                found[f"{kind} {form}"] = {**present, kind: form}
    return found | {"all reference": {}}


def models(name: str, runtime: str, precision: str) -> dict[str, bytes]:
    """The candidates of a network as the runtime takes them."""
    side = preset(name).resolution
    images = [
        np.random.default_rng(seed).standard_normal((1, 3, side, side), np.float32) for seed in range(4)
    ]
    candidates = by_form(name, forms_of(runtime, precision))
    if runtime == "litert":
        from hwnas.export.litert import network_model

        return {key: network_model(in_forms(name, forms)) for key, forms in candidates.items()}
    if runtime == "ncnn":
        from hwnas.export.ncnn.lowering import OPSET
        from hwnas.export.ncnn.pack import packed

        kept = {}
        for key, forms in candidates.items():
            try:
                kept[key] = packed(network_graph(in_forms(name, forms), opset=OPSET))
            except Exception as error:  # a form that ncnn has no layers for
                output.say(f"{name}: {key}: {error}")
        return kept
    plain = {key: network_graph(in_forms(name, forms)) for key, forms in candidates.items()}
    if runtime == "onnxruntime" and precision == "fp32":
        return plain | rewritten(plain["deployed"])
    if precision == "int8":
        return {key: quantise(data, images) for key, data in plain.items()} | int8(plain["deployed"], images)
    return plain


# --- fp32: other nodes for the same graph ------------------------------------------------------


def rewritten(model: bytes) -> dict[str, bytes]:
    """The model by the name of each rewriting that changes it."""
    found = {}
    for name, rewrite in REWRITES.items():
        parsed = onnx.load_from_string(model)
        before = len(parsed.graph.node)
        count = rewrite(parsed)
        if count:
            found[f"{name} ({count} x, {before} -> {len(parsed.graph.node)} nodes)"] = bytes(
                parsed.SerializeToString()
            )
    return found


def _users(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    return users


def _replace(graph: onnx.GraphProto, old: list[onnx.NodeProto], new: list[onnx.NodeProto]) -> None:
    """New nodes where the last of the old ones stood."""
    place = max(index for index, node in enumerate(graph.node) if node.name == old[-1].name)
    for offset, node in enumerate(new, start=1):
        graph.node.insert(place + offset, node)
    for node in old:
        graph.node.remove(node)


def tokens_as_matmul(model: onnx.ModelProto) -> int:
    """1x1 convolutions of (N, C, positions) as a product of their weights with it, and a sum."""
    graph, count = model.graph, 0
    weights = {weight.name: weight for weight in graph.initializer}
    for node in list(graph.node):
        if node.op_type != "Conv" or len(weights[node.input[1]].dims) != 3:
            continue
        matrix = numpy_helper.to_array(weights[node.input[1]])[:, :, 0]
        bias = numpy_helper.to_array(weights[node.input[2]])[:, None]
        for suffix, array in (("matrix", matrix), ("column", bias)):
            graph.initializer.append(numpy_helper.from_array(array.copy(), f"{node.name}/{suffix}"))
        product = f"{node.name}/product"
        _replace(
            graph,
            [node],
            [
                helper.make_node("MatMul", [f"{node.name}/matrix", node.input[0]], [product], product),
                helper.make_node("Add", [product, f"{node.name}/column"], node.output, f"{node.name}/sum"),
            ],
        )
        count += 1
    return count


def head_as_convolution(model: onnx.ModelProto) -> int:
    """The classifier, a Gemm of the pooled map, as a 1x1 convolution of it before it is flattened."""
    graph, count = model.graph, 0
    weights = {weight.name: weight for weight in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    for node in list(graph.node):
        flat = makers.get(node.input[0]) if node.op_type == "Gemm" else None
        if flat is None or flat.op_type not in ("Flatten", "Reshape"):
            continue
        matrix = numpy_helper.to_array(weights[node.input[1]])
        turned = any(item.name == "transB" and item.i for item in node.attribute)
        kernel = (matrix if turned else matrix.T)[:, :, None, None]
        graph.initializer.append(numpy_helper.from_array(kernel.copy(), f"{node.name}/kernel"))
        whole = f"{node.name}/map"
        conv = helper.make_node(
            "Conv", [flat.input[0], f"{node.name}/kernel", node.input[2]], [whole], f"{node.name}/conv"
        )
        last = helper.make_node("Flatten", [whole], node.output, f"{node.name}/flat")
        _replace(graph, [flat, node], [conv, last])
        count += 1
    return count


def multi_head_attention(model: onnx.ModelProto) -> int:
    """Each attention as ONNX Runtime's MultiHeadAttention, which is outside the ONNX standard.

    The graph has softmax(q^T k + bias) and v times its transpose, q, k and v being (windows, channels, N);
    the contrib op takes (windows, N, channels).
    """
    graph, count = model.graph, 0
    makers = {name: node for node in graph.node for name in node.output}
    users = _users(graph)
    shapes = _shapes(model)
    for softmax in [node for node in graph.node if node.op_type == "Softmax"]:
        scores = makers[softmax.input[0]]
        bias, old = "", [softmax]
        if scores.op_type == "Add":
            old.insert(0, scores)
            bias = next(name for name in scores.input if makers.get(name) is None)
            scores = makers[next(name for name in scores.input if makers.get(name) is not None)]
        (turned,) = users[softmax.output[0]]
        if scores.op_type != "MatMul" or turned.op_type != "Transpose":
            continue
        query = makers[scores.input[0]]
        (mixed,) = users[turned.output[0]]
        if query.op_type != "Transpose" or mixed.op_type != "MatMul" or users[query.output[0]] != [scores]:
            continue
        name, new = softmax.name, []
        for part, source in (("k", scores.input[1]), ("v", mixed.input[0])):
            new.append(
                helper.make_node("Transpose", [source], [f"{name}/{part}"], f"{name}/{part}", perm=[0, 2, 1])
            )
        if bias:
            size = shapes[softmax.output[0]]
            value = next(item for item in graph.initializer if item.name == bias)
            array = numpy_helper.to_array(value).reshape(1, 1, size[-2], size[-1])
            graph.initializer.append(numpy_helper.from_array(array.copy(), f"{name}/bias"))
        inputs = [query.output[0], f"{name}/k", f"{name}/v", "", "", f"{name}/bias" if bias else ""]
        new += [
            helper.make_node(
                "MultiHeadAttention",
                inputs,
                [f"{name}/mha"],
                f"{name}/mha",
                domain="com.microsoft",
                num_heads=1,
                scale=1.0,
            ),
            helper.make_node("Transpose", [f"{name}/mha"], mixed.output, f"{name}/back", perm=[0, 2, 1]),
        ]
        _replace(graph, [scores, *old, turned, mixed], new)
        count += 1
    if count:
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return count


def scores_turned(model: onnx.ModelProto) -> int:
    """softmax over columns of k^T q, whose transpose need not be made before the product with v."""
    graph, count = model.graph, 0
    makers = {name: node for node in graph.node for name in node.output}
    users = _users(graph)
    for softmax in [node for node in graph.node if node.op_type == "Softmax"]:
        chain = [softmax]
        scores = makers[softmax.input[0]]
        if scores.op_type == "Add":
            chain.insert(0, scores)
            scores = makers[next(name for name in scores.input if makers.get(name) is not None)]
        (turned,) = users[softmax.output[0]]
        query = makers.get(scores.input[0])
        if query is None or query.op_type != "Transpose" or turned.op_type != "Transpose":
            continue
        name = softmax.name
        key = helper.make_node("Transpose", [scores.input[1]], [f"{name}/k"], f"{name}/k", perm=[0, 2, 1])
        product = helper.make_node(
            "MatMul", [f"{name}/k", query.input[0]], [f"{name}/scores"], f"{name}/scores"
        )
        new, last = [key, product], f"{name}/scores"
        if len(chain) == 2:
            bias = next(item for item in chain[0].input if makers.get(item) is None)
            value = numpy_helper.to_array(next(item for item in graph.initializer if item.name == bias))
            graph.initializer.append(
                numpy_helper.from_array(np.ascontiguousarray(value.swapaxes(-1, -2)), f"{name}/bias")
            )
            new.append(helper.make_node("Add", [last, f"{name}/bias"], [f"{name}/sum"], f"{name}/sum"))
            last = f"{name}/sum"
        new.append(helper.make_node("Softmax", [last], turned.output, f"{name}/columns", axis=1))
        old = [query, scores] if users[query.output[0]] == [scores] else [scores]
        _replace(graph, [*old, *chain, turned], new)
        count += 1
    return count


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {
        info.name: [side.dim_value for side in info.type.tensor_type.shape.dim] for info in graph.value_info
    }


REWRITES: Mapping[str, Callable[[onnx.ModelProto], int]] = {
    "tokens by MatMul": tokens_as_matmul,
    "classifier as 1x1 convolution": head_as_convolution,
    "MultiHeadAttention": multi_head_attention,
    "softmax over columns": scores_turned,
}
"""By name: changes the model in place, and says how often."""


# --- int8: which nodes are quantised -----------------------------------------------------------

_SETS: Mapping[str, tuple[str, ...]] = {
    "int8 products and sums only": ("Conv", "Gemm", "MatMul", "Add"),
    "int8 without Softmax": tuple(kind for kind in quantising._QUANTISED if kind != "Softmax"),
    "int8 without Mul and Sigmoid": tuple(
        kind for kind in quantising._QUANTISED if kind not in ("Mul", "Sigmoid")
    ),
    "int8 without GlobalAveragePool": tuple(
        kind for kind in quantising._QUANTISED if kind != "GlobalAveragePool"
    ),
}


def int8(model: bytes, images: list[np.ndarray[Any, Any]]) -> dict[str, bytes]:
    """Other ways to quantise the deployed fp32 file."""
    found = {"ONNX Runtime's own quantisation": plain_int8(model, images)}
    kept = quantising._QUANTISED
    try:
        for name, kinds in _SETS.items():
            quantising._QUANTISED = kinds
            found[name] = quantise(model, images)
    finally:
        quantising._QUANTISED = kept
    return found


# --- timing ------------------------------------------------------------------------------------


def timed(name: str, options: Any) -> list[dict[str, Any]]:
    """A row for each candidate of a network."""
    module = importlib.import_module(f"hwnas.runtimes.{options.runtime}")
    sessions: dict[str, Any] = {}
    expected: np.ndarray[Any, Any] | None = None
    for key, model in models(name, options.runtime, options.precision).items():
        if key != "deployed" and options.only not in key:
            continue
        try:
            session = module.prepare(model, threads=options.threads, batch=1, precision=options.precision)
            found = np.asarray(session.outputs()[0]).ravel()
        except Exception as error:  # the runtime's own
            output.say(f"{name}: {key} does not run: {' '.join(str(error).split())[:200]}")
            continue
        expected = found if expected is None else expected
        difference = float(np.abs(found - expected).max() / np.abs(expected).max())
        if not difference <= _TOLERANCE[options.precision]:
            output.say(f"{name}: {key} differs by {difference:.1e} of the largest output: not timed")
            continue
        sessions[key] = session
    samples = _in_turns(sessions, options.rounds)
    rows = []
    for key, own in samples.items():
        ratios = tuple(a / b for a, b in zip(own, samples["deployed"], strict=True))
        low, high = median_interval(ratios)
        rows.append(
            {"network": name, "candidate": key, "ms": median(own), "ratio": median(ratios)}
            | {"ratio_low": low, "ratio_high": high}
        )
    return rows


def main() -> None:
    parser = output.parser(__doc__)
    parser.add_argument(
        "--runtime", default="onnxruntime", choices=("onnxruntime", "openvino", "ncnn", "litert")
    )
    parser.add_argument("--precision", default="fp32", choices=("fp32", "int8"))
    parser.add_argument("--models", nargs="+", default=list(_MODELS), metavar="NAME")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=120)
    parser.add_argument("--only", default="", metavar="WORD", help="candidates that have this in their name")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with one_thread():
        for name in options.models:
            rows += timed(name, options)
    version = importlib.import_module(f"hwnas.runtimes.{options.runtime}").probe()["version"]
    environment = {options.runtime: version, "precision": options.precision, "threads": options.threads}
    keys = ("network", "candidate", "ms", "ratio", "ratio_low", "ratio_high")
    output.answer(
        {"environment": {**environment, "graph": GRAPH}, "rows": rows},
        [
            output.grid(
                f"{options.runtime} {version}, {options.precision}; the ratio is candidate over deployed",
                ("network", "candidate", "ms", "ratio", "95 % from", "to"),
                [[row[key] for key in keys] for row in rows],
            )
        ],
        options.json,
    )


if __name__ == "__main__":
    output.run(main)
