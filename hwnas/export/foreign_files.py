"""A look at an exported model before a runtime opens it: it must be whole in itself and hold no code."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from hwnas.errors import FileFormatError

__all__ = ["require_safe", "require_whole"]


def require_safe(files: Mapping[str, bytes], path: Path) -> None:
    """Raises FileFormatError for a model, its files by suffix, that would run code or open other files."""
    if ".onnx" in files:
        require_whole(files[".onnx"], path)
    if ".pt2" in files:
        from hwnas.runtimes.torch import check_program

        try:
            check_program(files[".pt2"])
        except ValueError as error:
            raise FileFormatError(f"{path}: {error}. Export the network again") from None


def require_whole(onnx_model: bytes, path: Path) -> None:
    """Raises FileFormatError for an ONNX model with tensors in other files, wherever they are said to be."""
    if b"location" not in onnx_model:  # the key of the other file's path
        return
    if importlib.util.find_spec("onnx") is not None and not _has_outside(onnx_model, path):
        return
    raise FileFormatError(
        f"{path}: this ONNX model keeps its tensors in other files, which hwnas does not read: "
        "export the network again"
    )


def _has_outside(onnx_model: bytes, path: Path) -> bool:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        waiting: list[object] = [onnx.load_model_from_string(onnx_model)]
    except DecodeError:
        raise FileFormatError(f"{path}: not an ONNX model") from None
    while waiting:
        message = waiting.pop()
        if isinstance(message, onnx.TensorProto):
            if message.external_data or message.data_location == onnx.TensorProto.EXTERNAL:
                return True
            continue
        for field, value in message.ListFields():  # type: ignore[attr-defined]
            if field.message_type is not None:
                waiting += list(value) if not hasattr(value, "ListFields") else [value]
    return False
