"""The model card: what an exported network is, beside it, for people (Markdown) and programs (JSON).

What is not known is said to be unknown, as null in JSON.
"""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas import __version__, plugins
from hwnas.errors import FileFormatError, HwnasError, UsageError
from hwnas.export.card_program import program
from hwnas.export.formats import FORMATS
from hwnas.io import json as json_io
from hwnas.io import yaml as yaml_io
from hwnas.io.atomic import write_whole
from hwnas.predictors.latency.measurements import GRAPH, REFERENCE, Measurement
from hwnas.space import ArchSpec, lower

if TYPE_CHECKING:
    from hwnas.export.accuracy_check import Comparison
    from hwnas.export.deploy import Deployable
    from hwnas.export.metadata import FileMetadata
    from hwnas.predictors.latency.budget_check import TargetCheck
    from hwnas.targets import Promise
    from hwnas.train.checkpoint import Checkpoint

__all__ = [
    "add_measured",
    "card",
    "card_paths",
    "file_interface",
    "predicted_latency",
    "read_card",
    "write_card",
]

SCHEMA = 1  # 1: the first one
THIS_FILE = "this file"
"""What the latency of the exported file itself was measured of; others were measured of a graph with random
weights. Cards of earlier versions also say "published form", which is the reference graph."""

_UNKNOWN = "unknown"


def card(
    name: str,
    arch: ArchSpec,
    model: Deployable,
    files: Sequence[Path],
    *,
    metadata: FileMetadata,
    trained: Checkpoint | None,
    comparison: Comparison | None,
    calibration: str | None,
    measured: Sequence[Measurement] = (),
    promise: Promise | None = None,
    targets: Sequence[TargetCheck] = (),
) -> dict[str, Any]:
    """The card as plain data.

    `calibration` says which images an int8 model was quantised with, `measured` what graphs of the
    network took, `promise` and `targets` the budgets that it was searched for and how it keeps them.
    """
    ops = lower(arch)
    last = trained.history[-1] if trained is not None and trained.history else None
    return {
        "schema": SCHEMA,
        "kind": "model card",
        "task": metadata.task,
        "name": name,
        "id": arch.id,
        "weights": "random" if trained is None else "trained",
        "files": [file.name for file in files],
        "format": model.model_format,
        "precision": model.precision,
        "size_bytes": model.size_bytes,
        **file_interface(metadata),
        "params": sum(op.params for op in ops),
        "macs": sum(op.macs for op in ops),
        "parity": {"max_abs": model.parity_max_abs, "tolerance": model.parity_tolerance},
        "accuracy": {
            "in_training": None if last is None else {"epoch": last.epoch, "top1_percent": last.top1_percent},
            "exported": None if comparison is None else dataclasses.asdict(comparison),
        },
        "latency": {
            "predicted": [dict(row) for row in metadata.predicted],
            "measured": [_row(own, _graph(own.graph)) for own in measured] or None,
        },
        "recipe": None if trained is None else trained.recipe.to_dict(),
        "data": None if trained is None or not trained.data else dict(trained.data),
        "calibration": calibration,
        "searched_for": None
        if promise is None
        else {**promise.to_dict(), "is_as_found": arch.id == promise.network},
        "targets": [target.to_dict() for target in targets],
        "versions": {
            "hwnas": __version__,
            "python": platform.python_version(),
            **{
                package: str(plugins.require(package, extra="torch").__version__)
                for package in ("torch", "onnx")
            },
        },
        "arch": arch.to_dict(),
    }


def file_interface(metadata: FileMetadata) -> dict[str, Any]:
    """What a card says of how its file is used, as the file itself does."""
    return {
        "input": metadata.input.to_dict(),
        "output": metadata.outputs[0].to_dict(),
        "outputs": [output.to_dict() for output in metadata.outputs],
        "preprocess": metadata.preprocess,
        "preprocessing": metadata.preprocessing.to_dict(),
        "postprocessing": None if metadata.postprocessing is None else dict(metadata.postprocessing),
        "classes_names": None if metadata.classes_names is None else list(metadata.classes_names),
    }


def card_paths(path: Path) -> tuple[Path, Path]:
    """Where the card of the model `path` lies: FILE.card.md and FILE.card.json."""
    return path.with_name(f"{path.name}.card.md"), path.with_name(f"{path.name}.card.json")


def write_card(document: Mapping[str, Any], path: Path) -> tuple[Path, Path]:
    """Writes the card beside the model `path`; each of its two files appears whole or not at all."""
    written = card_paths(path)
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        for file, content in zip(written, (_markdown(document), text), strict=True):
            write_whole(file, content)
    except OSError as error:
        raise UsageError(f"{path}: its card cannot be written: {error.strerror}") from None
    return written


def read_card(path: Path) -> dict[str, Any]:
    """The card in a .card.json; raises FileFormatError for anything else."""
    try:
        document = json_io.read(path)
        known = document["kind"] == "model card" and document["schema"] == SCHEMA
        _markdown(document)  # has all that a card has
    except (FileFormatError, ValueError, LookupError, TypeError, AttributeError, OverflowError):
        known = False
    if not known:
        raise FileFormatError(
            f"{path}: not a model card that this hwnas reads (schema {SCHEMA}): export the model again"
        )
    return dict(document)


def add_measured(path: Path, document: Mapping[str, Any], measurement: Measurement) -> tuple[Path, Path]:
    """Writes the card of the model `path` anew, with what that very file took; an older measurement of the
    same configuration goes. Raises as `write_card`."""
    row = _row(measurement, THIS_FILE)
    same = (*_ROW, "of")
    kept = [
        own
        for own in document["latency"]["measured"] or []
        if any(own.get(name) != row[name] for name in same)
    ]
    latency = {**document["latency"], "measured": [*kept, row]}
    return write_card({**document, "latency": latency}, path)


_ROW = ("board", "runtime", "runtime_version", "provider", "threads", "batch", "precision")


def _row(measurement: Measurement, of: str) -> dict[str, Any]:
    data = measurement.to_dict()
    del data["network"], data["graph"]
    return {"of": of, **data}


def _graph(name: str) -> str:
    """A graph that was timed, in words."""
    if name == GRAPH:
        return "deployment graph"
    return "reference graph" if name == REFERENCE else f"earlier deployment graph ({name})"


def predicted_latency(arch: ArchSpec) -> list[dict[str, Any]]:
    """What the tables at hand say of the network; devices whose table lacks an op of it are left out."""
    from hwnas.predictors.latency import LatencyTable
    from hwnas.predictors.latency.locate import device_names

    found = []
    for device in device_names():
        try:
            table = LatencyTable.load(device)
            estimate = table.predict(arch)
        except HwnasError:
            continue
        found.append(
            {
                "device": device,
                "table": table.provenance,
                "ms": round(estimate.value, 4),
                "low_ms": None if estimate.low is None else round(estimate.low, 4),
                "high_ms": None if estimate.high is None else round(estimate.high, 4),
            }
        )
    return found


def _markdown(document: Mapping[str, Any]) -> str:
    exported, training = document["accuracy"]["exported"], document["accuracy"]["in_training"]
    parity, data = document["parity"], document["data"]
    outputs = document.get("outputs") or [document["output"]]
    facts = [
        ("architecture", f"{document['name']}, id {document['id']}"),
        ("parameters", f"{document['params'] / 1e6:.2f} M"),
        ("multiply-accumulates", f"{document['macs'] / 1e6:.1f} M an image"),
        ("weights", document["weights"]),
        ("files", f"{', '.join(document['files'])}, {document['size_bytes'] / 2**20:.2f} MiB"),
        ("format", f"{document['format']}, {document['precision']}"),
        ("input", _tensor(document["input"])),
        *(("output", _tensor(output)) for output in outputs),
        *_preprocessing(document),
        (
            "differs from torch",
            "not checked by logits: see the accuracy"
            if parity["max_abs"] is None
            else f"by {parity['max_abs']:.1e} at most ({parity['tolerance']:.1e} allowed)"
            + (" of the largest value" if parity.get("relative") else ""),
        ),
        (
            "accuracy in training",
            _UNKNOWN if training is None else f"{_trained_scores(training)}, epoch {training['epoch']}",
        ),
        ("accuracy of this export", _UNKNOWN if exported is None else _accuracy(exported)),
        ("data", _UNKNOWN if data is None else f"{data.get('name', _UNKNOWN)}"),
        ("calibrated on", document["calibration"] or "nothing"),
        *_budgets(document),
        ("versions", ", ".join(f"{key} {value}" for key, value in document["versions"].items())),
    ]
    latency = [
        f"| {row['device']} | {row['ms']:.3g} | {_interval(row)} | {row['table']} |"
        for row in document["latency"]["predicted"]
        if row["low_ms"] is not None or "backbone_ms" in row
    ]
    recipe = _UNKNOWN if document["recipe"] is None else f"```yaml\n{yaml_io.dump(document['recipe'])}```"
    return "\n".join(
        [
            f"# {document['name']}",
            "",
            "| | |",
            "|---|---|",
            *(f"| {key} | {value} |" for key, value in facts),
            "",
            *_program(document),
            "## Latency",
            "",
            "Predicted for the network's deployment graph on each device's runtime. This file has the graph "
            f"of {FORMATS[document['format']].title}.",
            "",
            "| device | ms, predicted | interval | table |",
            "|---|---|---|---|",
            *latency,
            "",
            *_measured(document["latency"]["measured"]),
            "",
            "## Recipe",
            "",
            recipe,
            "",
            "## Architecture",
            "",
            f"```yaml\n{yaml_io.dump(document['arch'])}```",
            "",
        ]
    )


def _budgets(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the network was searched for; cards before that was kept have none."""
    found = document.get("searched_for")
    if found is None:
        return []
    run = f"run {found['run'] or _UNKNOWN}"
    same = (
        "as found by it"
        if found["is_as_found"]
        else f"changed: it found the network of id {found['network']}"
    )
    rows = [("searched by", f"{run}; {same}")]
    for target in document["targets"]:
        if target["within"] is None:
            said = f"cannot be checked: {target['problem']}"
        else:
            said = (
                f"{target['held_ms']:.4g} ms predicted, {'within' if target['within'] else 'over'} the budget"
            )
        rows.append((f"budget on {target['device']}", f"{target['budget_ms']:g} ms; {said}"))
    return rows


def _interval(row: Mapping[str, Any]) -> str:
    if row["low_ms"] is None:
        return f"unknown: backbone {row['backbone_ms']:.3g}, head {row['head_ms']:.3g}, {row['head']}"
    return f"{row['low_ms']:.3g} to {row['high_ms']:.3g}"


def _tensor(data: Mapping[str, Any]) -> str:
    sides = " x ".join(map(str, data["shape"]))
    return f"`{data['name']}`, {sides}" + (f", {data['dtype']}, {data['what']}" if "dtype" in data else "")


def _preprocessing(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The facts of preprocessing; none for a card that an earlier version wrote."""
    how = document.get("preprocessing")
    if how is None:
        return []
    scaled = f"{how['interpolation']}, shorter side {how['shorter_side']} px"
    rule = (
        f"{scaled}, antialiased (Pillow), then the centre {how['width']} x {how['height']} px"
        if how["resize"] == "crop"
        else f"{scaled}, longer side at most {how['longest_side']} px, not antialiased; top left of the "
        f"{how['width']} x {how['height']} px input, the rest is 0 after normalisation"
    )
    normalised = f"/ {how['divide_by']:g}, mean {how['mean']}, std {how['std']}"
    inside = "inside the file: " if document["preprocess"] == "inside" else ""
    names = document["classes_names"]
    shown = None if names is None else ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return [
        ("resize", rule),
        ("pixels", f"{how['color_order']}, {inside}{normalised}"),
        ("classes", _UNKNOWN if shown is None else f"{len(names)}: {shown}"),
    ]


def _program(document: Mapping[str, Any]) -> list[str]:
    code = program(document)
    return [] if code is None else ["## Use", "", f"```python\n{code}```", ""]


def _trained_scores(training: Mapping[str, Any]) -> str:
    if "scores_percent" not in training:
        return f"{training['top1_percent']:.2f} % top-1"
    return ", ".join(f"{value:.2f} % {name}" for name, value in training["scores_percent"].items())


def _accuracy(exported: Mapping[str, Any]) -> str:
    if "scores_after_percent" in exported:
        before = exported["scores_before_percent"]
        scores = exported["scores_after_percent"].items()
        said = ", ".join(f"{value:.2f} % {name} ({before[name]:.2f} % before)" for name, value in scores)
        return f"{said} on {exported['images']} images of '{exported['split']}'"
    return (
        f"{exported['top1_after_percent']:.2f} % top-1 on {exported['images']} images of "
        f"'{exported['split']}' ({exported['top1_before_percent']:.2f} % before), the same class for "
        f"{exported['agreement_percent']:.2f} %"
    )


def _measured(rows: Sequence[Mapping[str, Any]] | None) -> list[str]:
    if not rows:
        return ["Measured: unknown (`hwnas measure FILE` measures it and writes it here)."]
    return [
        "| measured | ms | rounds | on | with | threads | batch | precision | when |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {row['of']} | {row['ms']:.3g} | {row['low_ms']:.3g} to {row['high_ms']:.3g} | {row['board']} "
            f"| {row['runtime']} {row['runtime_version']}, {row['provider']} | {row['threads']} "
            f"| {row['batch']} | {row['precision']} | {row['measured']} |"
            for row in rows
        ),
    ]
