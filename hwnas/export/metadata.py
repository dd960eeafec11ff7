"""FileMetadata: what an exported file says of itself, so that it can be used without hwnas's checkpoint.

One JSON document, at the same name in every container:

    onnx               metadata_props["hwnas"]
    openvino           the model's rt_info, <hwnas value="..."/>
    ncnn, litert       NAME.json beside NAME.param and NAME.bin; NAME.tflite.json
    exported-program   the extra file "hwnas.json" of the archive

Reading needs no torch: the format's runtime at most.
"""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from hwnas import __version__, plugins
from hwnas.data.preprocessing import Preprocessing, for_classifier
from hwnas.errors import ArchError, FileFormatError, UsageError
from hwnas.io import json as json_io
from hwnas.io.files import read_bytes
from hwnas.space import ArchSpec

if TYPE_CHECKING:
    from hwnas.train.checkpoint import Checkpoint

__all__ = [
    "FILE_KEY",
    "FORMATS_BY_SUFFIX",
    "FileMetadata",
    "Tensor",
    "attach",
    "metadata_in",
    "of_classifier",
]

FORMAT_VERSION = 1
"""1: the first one."""
KIND = "hwnas model"
FILE_KEY = "hwnas"
_EXTRA_FILE = "hwnas.json"

FORMATS_BY_SUFFIX = {
    ".onnx": "onnx",
    ".xml": "openvino",
    ".param": "ncnn",
    ".tflite": "litert",
    ".pt2": "exported-program",
}

_BESIDE = {"ncnn": ".json", "litert": ".tflite.json"}
"""Formats whose metadata is a file beside the model, and what that ends in."""

DEFAULT_EVAL_CROP = 0.875
"""Of a network without a recipe, as in ImageNet evaluations."""

Files = Mapping[str, bytes]
"""The content of each file of a model by its suffix; the one that names the model is last."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or an output of a file."""

    name: str
    shape: tuple[int | str, ...]
    """Sides; 'dynamic' where the number of images is free."""
    what: str
    """What it holds: images, logits, probabilities, boxes, ..."""
    dtype: str = "float32"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"name": self.name, "shape": list(self.shape), "what": self.what, "dtype": self.dtype}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Tensor:
        """What `to_dict` gave."""
        return cls(data["name"], tuple(data["shape"]), data["what"], data["dtype"])


@dataclass(frozen=True, slots=True)
class FileMetadata:
    """What a file needs to be used, and where it comes from."""

    name: str
    task: str
    """classify, detect or segment."""
    arch: ArchSpec
    """Of a dense network, the backbone."""
    model_format: str
    precision: str
    preprocessing: Preprocessing
    preprocess: str
    """'outside': the caller does all of it. 'inside': the file takes the scaled and cropped photo, uint8
    (N, H, W, 3), normalises it and gives probabilities."""
    input: Tensor
    outputs: tuple[Tensor, ...]
    classes_names: tuple[str, ...] | None
    """None for random weights."""
    postprocessing: Mapping[str, Any] | None = None
    """For a detector: thresholds, and the anchors of each map. See `hwnas.export.postprocessing`."""
    recipe: Mapping[str, Any] | None = None
    targets: Sequence[Mapping[str, Any]] = ()
    """Devices that the network was found for, with their budgets."""
    predicted: Sequence[Mapping[str, Any]] = ()
    """Latency by device, as tables predict it: device, table, ms, low_ms, high_ms."""
    hwnas_version: str = __version__

    @property
    def batch(self) -> int | None:
        """Images at once; None for any number."""
        first = self.input.shape[0]
        return first if isinstance(first, int) else None

    def to_json(self) -> str:
        """The document that goes into the file."""
        document = {
            "kind": KIND,
            "format_version": FORMAT_VERSION,
            "hwnas_version": self.hwnas_version,
            "name": self.name,
            "task": self.task,
            "id": self.arch.id,
            "model_format": self.model_format,
            "precision": self.precision,
            "input": self.input.to_dict(),
            "outputs": [output.to_dict() for output in self.outputs],
            "preprocess": self.preprocess,
            "preprocessing": self.preprocessing.to_dict(),
            "postprocessing": None if self.postprocessing is None else dict(self.postprocessing),
            "classes_names": None if self.classes_names is None else list(self.classes_names),
            "recipe": None if self.recipe is None else dict(self.recipe),
            "targets": [dict(target) for target in self.targets],
            "predicted": [dict(row) for row in self.predicted],
            "arch": self.arch.to_dict(),
        }
        return json.dumps(document, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, *, source: str) -> FileMetadata:
        """The metadata in a document; raises FileFormatError when `source` holds something else."""
        try:
            data = json_io.strict(text)
            if data["kind"] != KIND or data["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format version {data['format_version']}, {FORMAT_VERSION} is known")
            names = data["classes_names"]
            return cls(
                name=data["name"],
                task=data["task"],
                arch=ArchSpec.from_dict(data["arch"], source=f"{source}: arch"),
                model_format=data["model_format"],
                precision=data["precision"],
                preprocessing=Preprocessing.from_dict(data["preprocessing"]),
                preprocess=data["preprocess"],
                input=Tensor.from_dict(data["input"]),
                outputs=tuple(Tensor.from_dict(output) for output in data["outputs"]),
                classes_names=None if names is None else tuple(names),
                postprocessing=data["postprocessing"],
                recipe=data["recipe"],
                targets=tuple(data["targets"]),
                predicted=tuple(data["predicted"]),
                hwnas_version=data["hwnas_version"],
            )
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            OverflowError,
            ArchError,
            FileFormatError,
        ) as error:
            raise FileFormatError(
                f"{source}: its hwnas metadata cannot be read: {type(error).__name__}: {error}. "
                "Export the model again, or use a newer hwnas"
            ) from None


def of_classifier(
    name: str,
    arch: ArchSpec,
    *,
    model_format: str,
    precision: str,
    batch: int | str,
    preprocess: str,
    trained: Checkpoint | None,
    targets: Sequence[Mapping[str, Any]] = (),
    predicted: Sequence[Mapping[str, Any]] = (),
) -> FileMetadata:
    """What a classifier's file says of itself; `trained` is None where its weights are random."""
    side = arch.resolution
    inside = preprocess == "inside"
    images = (
        Tensor("photos", (batch, side, side, 3), "RGB pixels", "uint8")
        if inside
        else Tensor("images", (batch, 3, side, side), "normalised RGB")
    )
    what = "probabilities" if inside else "logits"
    eval_crop = DEFAULT_EVAL_CROP if trained is None else trained.recipe.eval_crop
    return FileMetadata(
        name=name,
        task="classify",
        arch=arch,
        model_format=model_format,
        precision=precision,
        preprocessing=for_classifier(side, eval_crop),
        preprocess=preprocess,
        input=images,
        outputs=(Tensor(what, (batch, arch.classes), what),),
        classes_names=None if trained is None else tuple(trained.classes_names),
        recipe=None if trained is None else trained.recipe.to_dict(),
        targets=targets,
        predicted=predicted,
    )


# --- into the files of each format -------------------------------------------------------------


def attach(metadata: FileMetadata, files: Files) -> Files:
    """The files of a model with the metadata inside, or beside them; the model computes as before."""
    text = metadata.to_json()
    if metadata.model_format == "onnx":
        return {suffix: _into_onnx(content, text) for suffix, content in files.items()}
    if metadata.model_format == "openvino":
        return _into_openvino(files, text)
    if metadata.model_format == "exported-program":
        return {suffix: _into_program(content, text) for suffix, content in files.items()}
    if metadata.model_format in _BESIDE:
        return {_BESIDE[metadata.model_format]: text.encode(), **files}
    raise UsageError(f"no place for metadata is known in the format '{metadata.model_format}'")


def _into_onnx(content: bytes, text: str) -> bytes:
    import onnx

    model = onnx.load_model_from_string(content)
    kept = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {**kept, FILE_KEY: text})
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _into_openvino(files: Mapping[str, bytes], text: str) -> Files:
    openvino: Any = plugins.require("openvino", extra="openvino")
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.xml", Path(folder) / "after.xml"
        before.write_bytes(files[".xml"])
        before.with_suffix(".bin").write_bytes(files[".bin"])
        model = openvino.Core().read_model(str(before))
        model.set_rt_info(text, [FILE_KEY])
        openvino.save_model(model, str(after), compress_to_fp16=False)
        return {".bin": after.with_suffix(".bin").read_bytes(), ".xml": after.read_bytes()}


def _into_program(content: bytes, text: str) -> bytes:
    import torch

    from hwnas.runtimes.torch import load_program

    stream = io.BytesIO()
    program = load_program(content)
    torch.export.save(program, stream, extra_files={_EXTRA_FILE: text})
    return stream.getvalue()


# --- and out of them ---------------------------------------------------------------------------


def metadata_in(path: Path) -> FileMetadata:
    """What the exported model `path` says of itself.

    Raises UsageError when there is no such file or its suffix is unknown, FileFormatError when it carries
    no metadata, MissingPackageError when reading an ONNX file needs a package that is not installed.
    """
    if path.suffix not in FORMATS_BY_SUFFIX:
        known = ", ".join(FORMATS_BY_SUFFIX)
        raise UsageError(f"{path}: an exported model ends in {known}. Export one with: hwnas export CKPT")
    if not path.is_file():
        raise UsageError(f"no file {path}: export a model with: hwnas export CKPT --out {path}")
    reader = {
        ".onnx": _from_onnx,
        ".xml": _from_openvino,
        ".param": _from_beside,
        ".tflite": _from_beside,
        ".pt2": _from_program,
    }
    try:
        text = reader[path.suffix](path)
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read: {error.strerror or error}") from None
    if text is None:
        raise FileFormatError(
            f"{path}: the file has no hwnas metadata, so its preprocessing and class names are unknown. "
            "Export the model again with this version of hwnas"
        )
    return FileMetadata.from_json(text, source=str(path))


def _from_onnx(path: Path) -> str | None:
    """By the onnx package where it is installed, else by ONNX Runtime."""
    try:
        import onnx
    except ModuleNotFoundError:
        return _from_onnx_by_runtime(path)
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except DecodeError:
        raise FileFormatError(f"{path}: not an ONNX model") from None
    props: dict[str, str] = {entry.key: entry.value for entry in model.metadata_props}
    return props.get(FILE_KEY)


def _from_onnx_by_runtime(path: Path) -> str | None:
    ort: Any = plugins.require("onnxruntime", extra="predict")
    try:
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common base of their own
        raise FileFormatError(f"{path}: not an ONNX model: {' '.join(str(error).split())[:200]}") from None
    props: dict[str, str] = session.get_modelmeta().custom_metadata_map
    return props.get(FILE_KEY)


def _from_openvino(path: Path) -> str | None:
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the others: its encoding
        raise FileFormatError(f"{path}: not an OpenVINO model: {error}") from None
    found = root.find(f"./rt_info/{FILE_KEY}")
    return None if found is None else found.get("value")


def _from_beside(path: Path) -> str | None:
    beside = path.with_suffix(_BESIDE[FORMATS_BY_SUFFIX[path.suffix]])
    if not beside.is_file():
        return None
    try:
        return read_bytes(beside, max_bytes=json_io.MAX_BYTES).decode()
    except UnicodeDecodeError:
        raise FileFormatError(f"{beside}: not UTF-8 text") from None


def _from_program(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            found = [file for file in archive.infolist() if file.filename.endswith(f"/{_EXTRA_FILE}")]
            if found and found[0].file_size > json_io.MAX_BYTES:
                raise ValueError(f"{found[0].filename} has {found[0].file_size} bytes")
            return archive.read(found[0]).decode() if found else None
    except OSError:
        raise
    except Exception as error:  # zipfile and the decompressors raise whatever they come upon
        raise FileFormatError(f"{path}: not a torch.export archive: {error}") from None
