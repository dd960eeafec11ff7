"""Networks that publications compare with -> the six numbers that latency is fitted on.

Those of UniForm's Table 6 go to networks.csv; those of other publications to networks_more.csv.

Needs the `torch` extra; the fit itself reads only the CSV. Each network is exported to ONNX as it
is deployed (MobileOne and RepVGG re-parameterised, BatchNorm folded by ONNX Runtime's basic level)
and its nodes are counted as `hwnas.space.ops` counts those of our own networks: views (reshape,
squeeze) are free, a ReLU that follows a convolution is part of it. UniForm's own rows come from
`lower` and are not in here.

    python experiments/board_profiles/compute_features.py
"""

from __future__ import annotations

import csv
import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.predictors.latency.features import FEATURE_NAMES

HERE = Path(__file__).parent

VIEWS = {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"}
"""Nodes that move no data."""
ARITHMETIC = {"Conv", "Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "LayerNormalization"}
"""Nodes whose constant inputs are weights, not shapes or axes."""
MACS_COLUMN = {"pointwise": "pointwise_macs", "matmul": "pointwise_macs", "conv": "conv_macs"}
MACS_COLUMN["depthwise"] = "depthwise_macs"


@dataclass(frozen=True, slots=True)
class Network:
    """A row of Table 6 and where its implementation is found."""

    model: str
    """As Table 6 calls it."""
    family: str
    """What leave-one-family-out leaves out together."""
    library: str
    """`timm` or `torchvision`."""
    name: str
    """The library's name for it."""
    resolution: int
    """Image side in pixels: the one its authors (and the accuracy in Table 6) use."""
    reparameterised: bool = False
    """Whether its training-time branches are merged, as it is deployed."""


NETWORKS = (
    Network("MobileNetV3-small", "MobileNetV3", "timm", "mobilenetv3_small_100", 224),
    Network("MobileNetV3-large", "MobileNetV3", "timm", "mobilenetv3_large_100", 224),
    Network("MobileViT-XXS", "MobileViT", "timm", "mobilevit_xxs", 256),
    Network("MobileViT-XS", "MobileViT", "timm", "mobilevit_xs", 256),
    Network("ShuffleNetV2 1.0x", "ShuffleNetV2", "torchvision", "shufflenet_v2_x1_0", 224),
    Network("EdgeNeXt-XXS", "EdgeNeXt", "timm", "edgenext_xx_small", 256),
    Network("EdgeNeXt-XS", "EdgeNeXt", "timm", "edgenext_x_small", 256),
    Network("MobileOne-S0", "MobileOne", "timm", "mobileone_s0", 224, reparameterised=True),
    Network("MobileOne-S1", "MobileOne", "timm", "mobileone_s1", 224, reparameterised=True),
    Network("RepVGG-A0", "RepVGG", "timm", "repvgg_a0", 224, reparameterised=True),
    Network("RepVGG-A1", "RepVGG", "timm", "repvgg_a1", 224, reparameterised=True),
    Network("RepVGG-A2", "RepVGG", "timm", "repvgg_a2", 224, reparameterised=True),
    Network("RepVGG-B0", "RepVGG", "timm", "repvgg_b0", 224, reparameterised=True),
    Network("DeiT-Tiny (distilled)", "DeiT", "timm", "deit_tiny_distilled_patch16_224", 224),
    Network("ConvNeXtV2-Atto", "ConvNeXtV2", "timm", "convnextv2_atto", 224),
)


MORE = (
    Network("ResNet18", "ResNet", "timm", "resnet18", 224),
    Network("ResNet34", "ResNet", "timm", "resnet34", 224),
    Network("ResNet50", "ResNet", "timm", "resnet50", 224),
    Network("MixNet-s", "MixNet", "timm", "mixnet_s", 224),
    Network("MixNet-m", "MixNet", "timm", "mixnet_m", 224),
    Network("MixNet-l", "MixNet", "timm", "mixnet_l", 224),
    Network("EfficientFormer-l1", "EfficientFormer", "timm", "efficientformer_l1", 224),
    Network("ViT-tiny", "DeiT", "timm", "vit_tiny_patch16_224", 224),
    Network("MobileViT-s", "MobileViT", "timm", "mobilevit_s", 256),
    Network("MobileNetV2 1.0x", "MobileNetV2", "timm", "mobilenetv2_100", 224),
    Network("MobileViTV2-0.5", "MobileViTV2", "timm", "mobilevitv2_050", 256),
    Network("MobileViTV2-0.75", "MobileViTV2", "timm", "mobilevitv2_075", 256),
    Network("MobileViTV2-1.0", "MobileViTV2", "timm", "mobilevitv2_100", 256),
    Network("ShuffleNetV2 1.5x", "ShuffleNetV2", "torchvision", "shufflenet_v2_x1_5", 224),
    Network("ShuffleNetV2 2.0x", "ShuffleNetV2", "torchvision", "shufflenet_v2_x2_0", 224),
    Network("MobileOne-S2", "MobileOne", "timm", "mobileone_s2", 224, reparameterised=True),
    Network("EfficientNet-B0", "EfficientNet", "timm", "efficientnet_b0", 224),
    Network("EfficientNet-B1", "EfficientNet", "timm", "efficientnet_b1", 240),
    Network("GhostNet 1.0x", "GhostNet", "timm", "ghostnet_100", 224),
    Network("GhostNet 1.3x", "GhostNet", "timm", "ghostnet_130", 224),
    Network("FastViT-T8", "FastViT", "timm", "fastvit_t8", 256, reparameterised=True),
    Network("FastViT-T12", "FastViT", "timm", "fastvit_t12", 256, reparameterised=True),
    Network("EfficientFormerV2-S0", "EfficientFormerV2", "timm", "efficientformerv2_s0", 224),
    Network("EfficientFormerV2-S1", "EfficientFormerV2", "timm", "efficientformerv2_s1", 224),
    Network("PoolFormer-S12", "PoolFormer", "timm", "poolformer_s12", 224),
)
"""Networks of the other publications: EfficientViT and SHViT, Table 2; NetsPresso Trainer's boards."""


def build(network: Network) -> Any:
    """The network in eval mode, with random weights: only its graph matters.

    BatchNorm's shifts are made non-zero, as training leaves them: folding drops a bias of zeros.
    """
    import torch

    if network.library == "timm":
        import timm

        model = timm.create_model(network.name).eval()
    else:
        import torchvision

        model = torchvision.models.get_model(network.name).eval()
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.constant_(part.bias, 0.1)
    if network.reparameterised:
        from timm.utils.model import reparameterize_model

        model = reparameterize_model(model)
    return model


def graph_of(model: Any, resolution: int) -> Any:
    """The ONNX graph for one image, BatchNorm and constants folded, every shape known."""
    import onnx
    import onnxruntime
    import torch

    with tempfile.TemporaryDirectory() as folder:
        plain, folded = Path(folder) / "plain.onnx", Path(folder) / "folded.onnx"
        image = torch.zeros(1, 3, resolution, resolution)
        with torch.no_grad():
            torch.onnx.export(model, (image,), str(plain), dynamo=True, verbose=False)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folded)
        options.log_severity_level = 3
        onnxruntime.InferenceSession(str(plain), options, providers=["CPUExecutionProvider"])
        return onnx.shape_inference.infer_shapes(onnx.load(str(folded))).graph


def count(graph: Any) -> dict[str, int]:
    """The six features of an ONNX graph."""
    total = dict.fromkeys(FEATURE_NAMES, 0)
    for feature, amount in _amounts(graph):
        total[feature] += amount
    return total


def _amounts(graph: Any) -> Iterator[tuple[str, int]]:
    constants: dict[str, tuple[int, ...]] = {item.name: tuple(item.dims) for item in graph.initializer}
    shapes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in [*graph.value_info, *graph.input, *graph.output]
    }
    before = ""
    for node in graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = tuple(node.attribute[0].t.dims)
            continue
        if node.op_type in VIEWS:
            continue
        weights = sum(math.prod(constants[name]) for name in node.input if name in constants)
        if node.op_type in ARITHMETIC:
            yield "weight_bytes", 4 * weights
        if macs := _macs(node, shapes, constants):
            yield macs
        fused = node.op_type == "Relu" and before in ("Conv", "Gemm")
        before = node.op_type
        if fused:
            continue
        writes = sum(math.prod(shapes[name]) for name in node.output if name)
        reads = sum(
            math.prod(shapes[name]) for name in node.input if name in shapes.keys() - constants.keys()
        )
        if node.op_type in ("Slice", "Gather"):  # reads no more than it keeps
            reads = writes
        yield "activation_bytes", 4 * (reads + writes)
        yield "nodes", 1


def _macs(
    node: Any, shapes: Mapping[str, tuple[int, ...]], constants: Mapping[str, tuple[int, ...]]
) -> tuple[str, int] | None:
    """The feature that the node's multiply-accumulates count for, and how many they are."""
    attributes = {item.name: item for item in node.attribute}
    if node.op_type == "Conv":
        _, per_group, *kernel = constants[node.input[1]]
        groups = attributes["group"].i if "group" in attributes else 1
        dense = "pointwise" if kernel == [1, 1] and groups == 1 else "conv"
        kind = "depthwise" if per_group == 1 and groups > 1 else dense
        return MACS_COLUMN[kind], math.prod(shapes[node.output[0]]) * per_group * math.prod(kernel)
    if node.op_type in ("Gemm", "MatMul"):
        left = shapes.get(node.input[0]) or constants[node.input[0]]
        transposed = "transA" in attributes and attributes["transA"].i
        inner = left[-2] if transposed else left[-1]
        return MACS_COLUMN["matmul"], math.prod(shapes[node.output[0]]) * inner
    return None


def main() -> None:
    for name, networks in (("networks.csv", NETWORKS), ("networks_more.csv", MORE)):
        with (HERE / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["model", "family", "implementation", "resolution", *FEATURE_NAMES])
            for network in networks:
                features = count(graph_of(build(network), network.resolution))
                where = f"{network.library} {network.name}"
                where += " re-parameterised" if network.reparameterised else ""
                writer.writerow(
                    [network.model, network.family, where, network.resolution, *features.values()]
                )
                print(f"{network.model}: {features}", flush=True)


if __name__ == "__main__":
    main()
