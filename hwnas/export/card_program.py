"""program(card): a short Python program that uses the exported file with its runtime, for the model card.

It needs numpy, Pillow and the runtime, not hwnas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["program"]

_IMPORTS = {
    "onnx": "import onnxruntime",
    "openvino": "import openvino",
    "ncnn": "import ncnn",
    "litert": "from ai_edge_litert.interpreter import Interpreter",
    "exported-program": "import torch",
}


def program(card: Mapping[str, Any]) -> str | None:
    """The program, or None for a card that an earlier version wrote, which has no preprocessing."""
    if card.get("preprocessing") is None:
        return None
    task: str = card.get("task", "classify")
    before = _cropped(card) if task == "classify" else _fitted(card["preprocessing"])
    after = {"classify": _classes, "detect": _boxes, "segment": _map}[task](card)
    lines = [
        "import json",
        "",
        "import numpy as np",
        _IMPORTS[card["format"]],
        "from PIL import Image, ImageOps",
        "",
    ]
    return "\n".join([*lines, *before, *_run(card), *after]) + "\n"


def _cropped(card: Mapping[str, Any]) -> list[str]:
    how = card["preprocessing"]
    lines = [
        'photo = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")',
        f"size = [{how['shorter_side']} * side // min(photo.size) for side in photo.size]",
        f"left, top = round((size[0] - {how['width']}) / 2), round((size[1] - {how['height']}) / 2)",
        f"box = (left, top, left + {how['width']}, top + {how['height']})",
        "pixels = np.asarray(photo.resize(size, Image.Resampling.BICUBIC).crop(box))",
    ]
    if card["preprocess"] == "inside":
        return [*lines, "images = pixels[None]"]
    return [
        *lines,
        f"values = (pixels / {how['divide_by']:g} - {how['mean']}) / {how['std']}",
        "images = np.ascontiguousarray(values.transpose(2, 0, 1)[None], np.float32)",
    ]


def _fitted(how: Mapping[str, Any]) -> list[str]:
    return [
        'photo = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")',
        "photo = np.asarray(photo)",
        "sides = photo.shape[:2]",
        f"scale = min({how['shorter_side']} / min(sides), {how['longest_side']} / max(sides), "
        f"{how['height']} / sides[0], {how['width']} / sides[1])",
        "height, width = (max(1, int(side * scale)) for side in sides)",
        "",
        "",
        "def resized(values, size, axis):  # bilinear",
        "    last = values.shape[axis] - 1",
        "    places = np.clip((np.arange(size) + 0.5) * (last + 1) / size - 0.5, 0, last)",
        "    low = places.astype(int)",
        "    share = (places - low).reshape([-1 if a == axis else 1 for a in range(values.ndim)])",
        "    above = values.take(np.minimum(low + 1, last), axis)",
        "    return values.take(low, axis) * (1 - share) + above * share",
        "",
        "",
        f"values = (photo / {how['divide_by']:g} - {how['mean']}) / {how['std']}",
        f"images = np.zeros((1, 3, {how['height']}, {how['width']}), np.float32)",
        "images[0, :, :height, :width] = resized(resized(values, height, 0), width, 1).transpose(2, 0, 1)",
    ]


def _run(card: Mapping[str, Any]) -> list[str]:
    """Lines that set the output's name from `images`, and `about`, the file's metadata."""
    file = card["files"][-1]
    names = [output["name"] for output in card["outputs"]]
    found = ", ".join(names) + ("," if len(names) == 1 else "")
    if card["format"] == "onnx":
        return [
            f'session = onnxruntime.InferenceSession("{file}")',
            f'{found} = session.run({names!r}, {{"{card["input"]["name"]}": images}})'.replace("'", '"'),
            'about = json.loads(session.get_modelmeta().custom_metadata_map["hwnas"])',
        ]
    if card["format"] == "openvino":
        return [
            f'model = openvino.Core().read_model("{file}")',
            'network = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})',
            f"{found} = network(images).values()",
            'about = json.loads(model.get_rt_info(["hwnas"]).astype(str))',
        ]
    if card["format"] == "ncnn":
        stem = file.removesuffix(".param")
        return [
            "net = ncnn.Net()",
            "net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False",
            f'net.load_param("{file}")',
            f'net.load_model("{stem}.bin")',
            "extractor = net.create_extractor()",
            f'extractor.input("{card["input"]["name"]}", ncnn.Mat(images[0]).clone())',
            f'{names[0]} = np.array(extractor.extract("{names[0]}")[1])[None]',
            f'about = json.load(open("{stem}.json", encoding="utf-8"))',
        ]
    if card["format"] == "litert":
        return [
            f'network = Interpreter("{file}").get_signature_runner()',
            f'{names[0]} = network({card["input"]["name"]}=images)["{names[0]}"]',
            f'about = json.load(open("{file}.json", encoding="utf-8"))',
        ]
    return [
        'extra = {"hwnas.json": ""}',
        f'network = torch.export.load("{file}", extra_files=extra).module()',
        "with torch.no_grad():",
        f"    {names[0]} = network(torch.from_numpy(images)).numpy()",
        'about = json.loads(extra["hwnas.json"])',
    ]


def _classes(card: Mapping[str, Any]) -> list[str]:
    (output,) = (output["name"] for output in card["outputs"])
    if card["classes_names"] is None:
        return [f'print(int({output}[0].argmax()), about["name"])']
    return [f'print(about["classes_names"][{output}[0].argmax()])']


def _boxes(card: Mapping[str, Any]) -> list[str]:
    how = card["postprocessing"]
    return [
        "boxes, scores = boxes[0].clip(0, [width, height, width, height]), scores[0]",
        "",
        "",
        "def overlap(a, b):",
        "    shared = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))",
        "    return shared / max(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared, 1e-9)",
        "",
        "",
        "kept = []",
        f"pairs = zip(*np.nonzero(scores > {how['score_threshold']}))",
        "for place, label in sorted(pairs, key=lambda pair: -scores[pair]):",
        "    same = (boxes[other] for other, its_label in kept if its_label == label)",
        f"    if all(overlap(boxes[place], other) <= {how['nms_iou']} for other in same):",
        "        kept.append((place, label))",
        "to_photo = [sides[1] / width, sides[0] / height] * 2",
        f"for place, label in kept[:{how['max_detections']}]:",
        '    print(about["classes_names"][label], scores[place, label], *(boxes[place] * to_photo))',
    ]


def _map(card: Mapping[str, Any]) -> list[str]:
    return [
        "logits = resized(resized(logits[0, :, :height, :width], sides[0], 1), sides[1], 2)",
        "classes = logits.argmax(0)  # (H, W), 0 for none",
        'for number, name in enumerate(["none", *about["classes_names"]]):',
        "    print(name, int((classes == number).sum()))",
    ]
