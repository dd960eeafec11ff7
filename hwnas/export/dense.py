"""A trained detector or segmentation network as a file for a runtime, checked against torch.

ONNX and OpenVINO, fp32; int8 is ONNX. Images of one size: a photo is scaled as in training and lies at the
top left of the input. Boxes are computed inside the file, suppression of doubles is done outside
(`hwnas.export.postprocessing`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hwnas import plugins
from hwnas.data.decoding import UnreadableImageError, decode
from hwnas.data.preprocessing import Preprocessing
from hwnas.dense.checkpoint import DenseCheckpoint, trained_network
from hwnas.dense.coco import Photo, open_coco
from hwnas.dense.evaluation import scores_of
from hwnas.dense.networks import DenseNetwork
from hwnas.dense.trainer import evaluate_checkpoint
from hwnas.errors import HwnasError, UsageError
from hwnas.export.accuracy_check import CALIBRATION_IMAGES
from hwnas.export.dense_graph import OUTPUTS, DenseGraph
from hwnas.export.deploy import Array, Deployable
from hwnas.export.formats import FORMATS, Files, RunAll, openvino_files, run_of
from hwnas.export.metadata import FileMetadata
from hwnas.export.metadata import Tensor as TensorInfo
from hwnas.export.onnx_edges import with_boxes
from hwnas.export.onnx_writer import MIN_OPSET, record
from hwnas.export.postprocessing import class_map, detections
from hwnas.export.quantise import quantise

__all__ = [
    "DENSE_FORMATS",
    "DenseComparison",
    "DenseDeployable",
    "calibration_batches",
    "compare",
    "dense_model",
    "input_size",
    "prepare",
    "preprocessing_of",
]

DENSE_FORMATS = ("onnx", "openvino")
RELATIVE_TOLERANCE = 5e-4
"""How far an output may be from torch's, over its largest value."""


@dataclass(frozen=True, slots=True)
class DenseDeployable:
    """A dense network in a format, checked, not yet written."""

    model: Deployable
    """Its `run` gives the first output; its parity is relative to the largest value of each output."""
    run: RunAll
    """Images (1, 3, H, W) -> all outputs."""
    outputs: tuple[TensorInfo, ...]
    postprocessing: Mapping[str, Any] | None
    preprocessing: Preprocessing


def input_size(trained: DenseCheckpoint, asked: str | None) -> tuple[int, int]:
    """(width, height) of the file's input, both multiples of the last stage's stride.

    `asked` is as 640x480; without it, a square that every photo fits in at the recipe's scale.
    """
    stride = trained.arch.stem.stride << (len(trained.arch.stages) - 1)
    if asked is None:
        side = -(-trained.recipe.longest_side // stride) * stride
        return side, side
    wide, _, high = asked.lower().partition("x")
    if not (wide.isdecimal() and high.isdecimal() and int(wide) and int(high)):
        raise UsageError(f"--input-size must be WIDTHxHEIGHT in pixels, such as 640x480, got '{asked}'")
    width, height = int(wide), int(high)
    if width % stride or height % stride:
        near = "x".join(str(max(1, round(side / stride)) * stride) for side in (width, height))
        raise UsageError(
            f"--input-size: both sides must be multiples of {stride}, the stride of the last stage, got "
            f"'{asked}'. Try {near}"
        )
    return width, height


def preprocessing_of(trained: DenseCheckpoint, size: tuple[int, int]) -> Preprocessing:
    """How photos are prepared for a file of this (width, height)."""
    width, height = size
    recipe = trained.recipe
    return Preprocessing(
        height, width, "fit", recipe.image_size, longest_side=recipe.longest_side, interpolation="bilinear"
    )


def prepare(
    trained: DenseCheckpoint,
    *,
    size: tuple[int, int],
    model_format: str = "onnx",
    opset: int = MIN_OPSET,
    calibration: Iterable[Array] | None = None,
) -> DenseDeployable:
    """The network in a format, run once and compared with torch.

    Raises UsageError for a format or a task that cannot be exported, HwnasError when the outputs are not
    torch's.
    """
    if model_format not in DENSE_FORMATS:
        raise UsageError(
            f"detectors and segmentation networks are exported to {' and '.join(DENSE_FORMATS)}, got "
            f"'{model_format}': hwnas has no rules for their heads (grouped norms, enlarged maps) there"
        )
    if calibration is not None and model_format != "onnx":
        raise UsageError(f"int8 is exported to onnx only, got the format '{model_format}'")
    width, height = size
    network = trained_network(trained)
    precision = "fp32" if calibration is None else "int8"
    graph = DenseGraph(network, trained.task, height, width, FORMATS[model_format].runtime, precision).eval()
    data = dense_model(graph, opset=opset)
    if calibration is not None:
        data = quantise(data, calibration)
    classes = len(trained.classes_names)
    anchors: NDArray[np.float32] | None = None
    outputs: tuple[TensorInfo, ...]
    postprocessing: dict[str, Any] | None = None
    if trained.task == "detect":
        anchors, per_map = _anchors(network, height, width)
        data = with_boxes(data, anchors, classes)
        inner: Any = network.inner
        postprocessing = {
            "score_threshold": float(inner.score_thresh),
            "nms_iou": float(inner.nms_thresh),
            "max_detections": int(inner.detections_per_img),
            "candidates_per_map": int(inner.topk_candidates),
            "anchors_per_map": per_map,
        }
        outputs = (
            TensorInfo("boxes", (1, len(anchors), 4), "left, top, right, bottom in pixels of the input"),
            TensorInfo("scores", (1, len(anchors), classes), "probabilities by class"),
        )
    else:
        outputs = (TensorInfo("logits", (1, classes + 1, height, width), "logits by pixel, 0 for none"),)
    files: Files = {".onnx": data} if model_format == "onnx" else openvino_files(data)
    run = run_of(files, model_format)
    difference = None
    if calibration is None:
        difference = _difference(network, anchors, run, height, width)
        if not difference <= RELATIVE_TOLERANCE:  # NaN fails too
            raise HwnasError(
                f"{model_format}: outputs differ from torch by {difference:.1e} of the largest, "
                f"{RELATIVE_TOLERANCE:.1e} is allowed; no file was written. Check the weights for NaN, or "
                "report this network"
            )
    model = Deployable(
        model_format,
        precision,
        files,
        lambda images: run(images)[0],
        difference,
        None if difference is None else RELATIVE_TOLERANCE,
    )
    return DenseDeployable(model, run, outputs, postprocessing, preprocessing_of(trained, size))


def dense_model(graph: DenseGraph, *, opset: int = MIN_OPSET) -> bytes:
    """The ONNX model of the graph, `images` -> OUTPUTS of its task."""
    model, _ = record(
        graph,
        torch.zeros(1, 3, graph.height, graph.width),
        input_name="images",
        output_name=OUTPUTS[graph.task],
        places=graph.places,
        opset=opset,
    )
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def metadata_of(
    trained: DenseCheckpoint, made: DenseDeployable, *, predicted: Sequence[Mapping[str, Any]] = ()
) -> FileMetadata:
    """What the file says of itself."""
    how = made.preprocessing
    return FileMetadata(
        name=trained.name or trained.arch.id,
        task=trained.task,
        arch=trained.arch,
        model_format=made.model.model_format,
        precision=made.model.precision,
        preprocessing=how,
        preprocess="outside",
        input=TensorInfo("images", (1, 3, how.height, how.width), "normalised RGB"),
        outputs=made.outputs,
        classes_names=tuple(trained.classes_names),
        postprocessing=made.postprocessing,
        recipe=trained.recipe.to_dict(),
        predicted=predicted,
    )


# --- data: calibration, and the scores before and after -----------------------------------------


@dataclass(frozen=True, slots=True)
class DenseComparison:
    """A dense network before and after it was exported, on the same photos."""

    images: int
    split: str
    scores_before_percent: Mapping[str, float]
    """Of the network in torch, each photo in its own shape."""
    scores_after_percent: Mapping[str, float]
    """Of the exported file, in its runtime."""


def calibration_batches(trained: DenseCheckpoint, size: tuple[int, int], folder: Path) -> list[Array]:
    """Up to CALIBRATION_IMAGES training photos, each as a batch of one. Raises UsageError for none."""
    data = open_coco(folder, outlines=trained.task != "detect")
    how = preprocessing_of(trained, size)
    step = max(1, len(data.train) // CALIBRATION_IMAGES)
    batches = [images for _, images in _prepared(data.train[::step][:CALIBRATION_IMAGES], how)]
    if not batches:
        raise UsageError(f"{folder}: calibration needs a photo that can be read, got none")
    return [prepared.images for prepared in batches]


def compare(trained: DenseCheckpoint, made: DenseDeployable, folder: Path) -> DenseComparison:
    """The scores on the evaluation photos of `folder`, before and after the export."""
    before = evaluate_checkpoint(trained, folder)
    photos = open_coco(folder, outlines=trained.task != "detect").evaluation
    scores = scores_of(trained.task, len(trained.classes_names))
    count = 0
    for photo, prepared in _prepared(photos, made.preprocessing):
        outputs = [output[0] for output in made.run(prepared.images)]
        size = (photo.width, photo.height)
        if trained.task == "detect":
            found = detections(outputs[0], outputs[1], made.postprocessing or {}, prepared, size)
            predicted = {
                "boxes": torch.from_numpy(found.boxes),
                "labels": torch.from_numpy(found.labels + 1),
                "scores": torch.from_numpy(found.scores),
            }
        else:
            predicted = {"map": torch.from_numpy(class_map(outputs[0], prepared, size)).long()}
        scores.add(photo, predicted)
        count += 1
    return DenseComparison(count, "evaluation", dict(before.scores), scores.percent())


def _prepared(photos: Iterable[Photo], how: Preprocessing) -> Iterator[tuple[Photo, Any]]:
    """The photos as the file takes them; those that cannot be read are left out."""
    for photo in photos:
        try:
            picture = decode(photo.path.read_bytes())
        except (UnreadableImageError, OSError):
            continue
        if picture.size == (photo.width, photo.height):
            yield photo, how.prepared(picture)


# --- parity -------------------------------------------------------------------------------------


def _anchors(network: DenseNetwork, height: int, width: int) -> tuple[NDArray[np.float32], list[int]]:
    """Torchvision's anchors (A, 4) for an input of this size, and how many each map has."""
    lists: Any = plugins.require("torchvision.models.detection.image_list", extra="torch")
    inner: Any = network.inner
    images = torch.zeros(1, 3, height, width)
    with torch.no_grad():
        maps = list(inner.backbone(images).values())
        (anchors,) = inner.anchor_generator(lists.ImageList(images, [(height, width)]), maps)
    counts = inner.anchor_generator.num_anchors_per_location()
    sizes = [one.shape[2] * one.shape[3] * count for one, count in zip(maps, counts, strict=True)]
    return anchors.numpy().astype(np.float32), sizes


def _expected(network: DenseNetwork, anchors: NDArray[np.float32] | None, images: Tensor) -> list[Array]:
    """What torchvision's own code gives for prepared images."""
    inner: Any = network.inner
    with torch.no_grad():
        maps = list(inner.backbone(images).values())
        if anchors is None:
            finest = maps[0].shape[2:]
            enlarged = [torch.nn.functional.interpolate(one, size=finest, mode="nearest") for one in maps]
            logits = inner.head(torch.stack(enlarged).sum(0))
            whole = torch.nn.functional.interpolate(
                logits, size=images.shape[2:], mode="bilinear", align_corners=False
            )
            return [whole.numpy()]
        found = inner.head(maps)
        boxes = inner.box_coder.decode_single(found["bbox_regression"][0], torch.from_numpy(anchors))
        scores = found["cls_logits"].sigmoid()[..., 1:]
    return [boxes[None].numpy(), scores.numpy()]


def _difference(
    network: DenseNetwork, anchors: NDArray[np.float32] | None, run: RunAll, height: int, width: int
) -> float:
    images = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    pairs = zip(run(images.numpy()), _expected(network, anchors, images), strict=True)
    shares = [
        float(np.abs(got - wanted).max()) / max(float(np.abs(wanted).max()), 0.01) for got, wanted in pairs
    ]
    return float(np.max(shares))  # unlike max, keeps NaN
