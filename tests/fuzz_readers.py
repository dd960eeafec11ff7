"""Every reader of files from elsewhere, with whole files for it: what `experiments/hard_use/fuzz.py` tries.

A reader has a folder of whole files, a function that reads them as the product does and returns what they
mean, and ways to change them. Where a checksum or a digest covers a file (`checked`), damage must be refused
or change nothing. `document` names the file's plain data, to be changed and sealed again: that reaches the
checks behind a checksum.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import random
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from fuzz_mutations import changed_document, changed_json_in_zip, changed_tar, damaged
from latency_fakes import FakeExporter, FakeLink
from latency_fakes import small_space as latency_space
from search_fakes import SMALL, cheap_by_size, small_space, table

from hwnas.board import protocol
from hwnas.io import json as json_io
from hwnas.io import jsonl
from hwnas.io import yaml as yaml_io
from hwnas.io.jsonl import Kind, Log, read_log
from hwnas.space import ArchSpec, SearchSpace, lower, preset

__all__ = ["READERS", "Reader"]

Change = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True, slots=True)
class Reader:
    """One reader."""

    make: Callable[[Path], None]
    """Writes whole files into an empty folder."""
    files: tuple[str, ...]
    """Which of them are changed."""
    read: Callable[[Path], object]
    """What the folder means; the product's own way to read it."""
    checked: bool = False
    """Whether every change is refused, or changes nothing that is read."""
    rows: Callable[[Any], Sequence[object]] | None = None
    """The rows of what was read: a log without some of its lines is whole, as users may delete any."""
    change: Change | None = None
    """A change that only the reader's own checks can find: the file's checksum is right again."""

    def agrees(self, found: Any, meaning: Any) -> bool:
        """Whether that is what the whole files mean."""
        if self.rows is None:
            return bool(found == meaning)
        some, every = list(self.rows(found)), list(self.rows(meaning))
        return len(some) <= len(every) and all(row in every for row in some)


# --- changes that keep a file's form ------------------------------------------------------------


def in_json(content: bytes, rng: random.Random) -> bytes:
    return _dumped(changed_document(json.loads(content), rng))


def _dumped(document: Any) -> bytes:
    return json.dumps(document).encode("utf-8", "surrogatepass")


def in_yaml(content: bytes, rng: random.Random) -> bytes:
    return yaml_io.dump(changed_document(yaml_io.parse(content.decode(), source=""), rng)).encode(
        "utf-8", "surrogatepass"
    )


def in_json_line(content: bytes, rng: random.Random) -> bytes:
    """One line of a file of JSON lines without checksums."""
    lines = content.splitlines()
    place = rng.randrange(len(lines))
    lines[place] = in_json(lines[place], rng)
    return b"\n".join(lines) + b"\n"


def in_log(kind: Kind) -> Change:
    """A row or the first line of a log; all checksums are made again."""

    def change(content: bytes, rng: random.Random) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "log"
            path.write_bytes(content)
            found = read_log(path, kind)
        rows, of = list(found.rows), dict(found.of or {})
        place = rng.randrange(-1, len(rows))
        if place < 0:
            of = changed_document(of, rng)
        else:
            rows[place] = changed_document(rows[place], rng)
        first = jsonl._sealed({"format": kind.format, "version": kind.version, "of": of}, 0)
        seed = jsonl._seal_of(first)
        lines = [first]
        for row in rows:
            body = _dumped(row)
            body = body[:-1] if body.endswith(b"}") and len(body) > 2 else b'{"x":1'
            lines.append(body + b',"crc":"%08x"}\n' % zlib.crc32(body, seed or 0))
        return b"".join(lines)

    return change


def in_table(content: bytes, rng: random.Random) -> bytes:
    document = changed_document(yaml_io.parse(content.decode(), source=""), rng)
    if isinstance(document, dict) and "checksum" in document:
        text = yaml_io.dump(document)
        try:
            document["checksum"] = json_io.checksum(yaml_io.parse(text, source=""))
        except Exception:
            return text.encode("utf-8", "surrogatepass")
    return yaml_io.dump(document).encode("utf-8", "surrogatepass")


def in_sealed(content: bytes, rng: random.Random) -> bytes:
    """The document or the tensors of a checkpoint; its checksum is made again."""
    import torch

    from hwnas.io import tensors as sealed_files

    size = int.from_bytes(content[:8], "little")
    document = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["hwnas"])
    from safetensors.torch import load

    tensors = load(content)
    if rng.random() < 0.75:
        document = changed_document(document, rng)
    else:
        name = rng.choice(sorted(tensors))
        tensor = tensors.pop(name)
        other = rng.choice(
            [
                None,
                tensor.flatten(),
                tensor.double(),
                torch.zeros(0),
                torch.full((2,), float("nan")),
                tensor[None],
            ]
        )
        if other is not None:
            tensors[rng.choice((name, name + "x", ""))] = other
    return sealed_files.sealed(tensors, document)


# --- whole files --------------------------------------------------------------------------------


def _write(name: str, content: str | bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def _arch(folder: Path) -> object:
    arch = ArchSpec.from_dict(yaml_io.read(folder / "net.yaml"), source="net.yaml")
    ops = lower(arch)
    assert ArchSpec.from_dict(arch.to_dict()) == arch
    return arch, len(ops)


def _space(folder: Path) -> object:
    space = SearchSpace.from_yaml(folder / "space.yaml")
    rng = random.Random(0)
    for _ in range(3):
        arch = space.sample(rng)
        assert space.decode(space.encode(arch)).id == arch.id
        lower(arch)
    return space


@cache
def _built_table() -> bytes:
    """A table with rows, calibration, residual and held-out networks, built on a fake board."""
    from hwnas.measure.build import build_table
    from hwnas.measure.plan import make_plan, space_ops
    from hwnas.predictors.latency.table_file import table_text

    space = latency_space()
    own = {op.key for op in space_ops(space)}
    plan = make_plan(space, networks=18, passes=3)
    plan = dataclasses.replace(plan, ops=tuple(op for op in plan.ops if op.key in own))
    with tempfile.TemporaryDirectory() as folder:
        built = build_table(
            plan,
            name="board",
            runtime="fake",
            threads=1,
            batch=1,
            precision="fp32",
            exporter=FakeExporter(),
            start=FakeLink().start,
            samples=Path(folder) / "board.samples",
            created="2026-11-21",
            sleep=lambda seconds: None,
        )
        return table_text(built).encode()


def _two_tables(folder: Path) -> None:
    table().save(folder / "table.yaml")
    (folder / "rows.yaml").write_bytes(_built_table())


def _tables(folder: Path) -> object:
    from hwnas.predictors.latency import LatencyTable

    found = [LatencyTable.load(str(folder / name)) for name in ("table.yaml", "rows.yaml")]
    return found, found[0].predict(preset("uniform-t"))


def _summaries(folder: Path) -> object:
    from hwnas.predictors.latency.table_file import read_summary

    return [read_summary(folder / name) for name in ("table.yaml", "rows.yaml")]


def _run_folder(folder: Path) -> None:
    from hwnas.search import search

    search(small_space(), device=table(), budget_ms=0.9, accuracy=cheap_by_size, trials=12, out=folder)


def _arrays_folder(folder: Path) -> None:
    """The run of a search in arrays, with epochs."""
    from hwnas.search.run import create_run, load_run, progress_log

    config = load_run(Path(__file__).parent / "old_formats" / "arrays").config
    create_run(folder, config, trials=None)
    with progress_log(folder) as log:
        log.extend(
            {
                "number": n,
                "evaluated": 90 * n,
                "recorded": 0,
                "front": n,
                "hypervolume": 1.5 * n,
                "converged": False,
            }
            for n in range(4)
        )


def _verified_folder(folder: Path) -> None:
    """A run whose front was measured."""
    from hwnas.estimate import Estimate
    from hwnas.search.run import load_run
    from hwnas.search.verification import Corrected, MeasuredCandidate, Verification

    _run_folder(folder)
    result = load_run(folder)
    shown = result.front[:3]
    measured = tuple(MeasuredCandidate(one.id, 1, (0.5, 0.52, 0.51), 0.6, 1.0, one.latency) for one in shown)
    Verification(
        most=3,
        candidates=len(result.trials),
        profile={"board": "Toy", "runtime": "none"},
        environment={"cpu": "one"},
        started="2026-11-21T16:00:00+00:00",
        finished="2026-11-21T16:10:00+00:00",
        measured=measured,
        correction=Corrected("one factor", 1.1, {}, 9.0, 2.0),
        corrected={one.id: Estimate(0.5, 0.01, 0.4, 0.6, "ms") for one in shown},
        front=tuple(one.id for one in shown),
    ).write(folder)


def _run(folder: Path) -> object:
    from hwnas.search.output import document
    from hwnas.search.run import load_run

    result = load_run(folder)
    json.dumps(document(result))
    return result


def _log_of(kind: Kind, old: str, name: str) -> Callable[[Path], None]:
    """The rows of a file in tests/old_formats, in a log with checksums."""

    def make(folder: Path) -> None:
        found = read_log(Path(__file__).parent / "old_formats" / old, kind)
        with Log(folder / name, kind, of=found.of) as log:
            log.extend(found.rows)

    return make


def _measurements(folder: Path) -> None:
    from hwnas.predictors.latency.measurements import Measurement, record

    one = Measurement(
        "abc", 2.0, 1.9, 2.2, "2026-11-21T16:00:00Z", "B", "onnxruntime", "1.0", "CPU", 1, 1, "fp32"
    )
    record(folder, [one, dataclasses.replace(one, threads=2), dataclasses.replace(one, batch=4)])


def _states(folder: Path) -> None:
    from hwnas.tune.record import write_states

    write_states(folder, {"a": "open", "b": "finished", "c": "fallen behind"})


def _version_checks(folder: Path) -> None:
    from hwnas.predictors.latency.runtime_versions import FORMAT, FORMAT_VERSION

    check = {"runtime_version": "1.21.0", "networks": 6, "mape_percent": 3.5, "date": "2026-11-30"}
    document = {"format": FORMAT, "version": FORMAT_VERSION, "checks": {"ab" * 32: [check, check]}}
    (folder / "t.checks.json").write_text(json.dumps(document))


def _recipes(folder: Path) -> None:
    from hwnas.train.recipe import read_recipe

    for name in ("small", "imagenet-distilled", "finetune-384"):
        (folder / f"{name}.yaml").write_text(read_recipe(name).to_yaml())


def _read_recipes(folder: Path) -> object:
    from hwnas.train.recipe import read_recipe

    recipes = [read_recipe(str(path)) for path in sorted(folder.glob("*.yaml"))]
    assert all(type(recipe).from_yaml(recipe.to_yaml()) == recipe for recipe in recipes)
    return recipes


def _dense_recipe(folder: Path) -> object:
    from hwnas.dense.recipe import read_recipe

    return read_recipe(str(folder / "coco.yaml"))


def _make_dense_recipe(folder: Path) -> None:
    from hwnas.dense.recipe import read_recipe

    (folder / "coco.yaml").write_text(read_recipe("coco").to_yaml())


def _coco(folder: Path) -> None:
    from dense_samples import write_set

    rng = random.Random(3)
    for split, count in (("train", 4), ("val", 2)):
        write_set(folder / split / "annotations.json", folder / split / "images", count, rng)
    file = folder / "train" / "annotations.json"
    document = json.loads(file.read_text())
    image = document["images"][0]
    size = [image["height"], image["width"]]
    for mask in (
        {"size": size, "counts": [10, 20, size[0] * size[1] - 30]},
        {"size": size, "counts": "0" * 4},
    ):
        extra = document["annotations"][0] | {"id": len(document["annotations"]) + 9, "segmentation": mask}
        document["annotations"].append(extra | {"image_id": image["id"]})
    document["annotations"].pop()  # the text of counts above does not fill an image: a seed must be whole
    file.write_text(json.dumps(document))


def _read_coco(folder: Path) -> object:
    from hwnas.dense.coco import open_coco

    return [open_coco(folder, outlines=outlines) for outlines in (False, True)]


IMAGE_KINDS = (
    "PNG",
    "JPEG",
    "GIF",
    "TIFF",
    "WEBP",
    "BMP",
    "DDS",
    "ICO",
    "TGA",
    "PCX",
    "SGI",
    "JPEG2000",
    "AVIF",
)


def _images(folder: Path) -> None:
    import numpy as np
    import PIL.Image

    rng = np.random.default_rng(0)
    picture = PIL.Image.fromarray(rng.integers(0, 255, (16, 24, 3), dtype=np.uint8))
    exif = PIL.Image.Exif()
    exif[0x112] = 6
    for kind in IMAGE_KINDS:
        try:
            picture.save(folder / kind, kind, **({"exif": exif} if kind in ("JPEG", "PNG", "WEBP") else {}))
        except (KeyError, OSError):  # this Pillow does not write it
            (folder / kind).write_bytes((folder / "PNG").read_bytes())
    deep = PIL.Image.fromarray(rng.integers(0, 4000, (16, 24), dtype=np.uint16))
    deep.save(folder / "16.tiff", "TIFF")
    PIL.Image.fromarray(rng.random((16, 24), dtype=np.float32)).save(folder / "float.tiff", "TIFF")


def _decoded(file: str) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        from hwnas.data.decoding import UnreadableImageError, decode, sides_of
        from hwnas.errors import FileFormatError

        content = (folder / file).read_bytes()
        try:
            sides_of(content)
            return decode(content).size
        except UnreadableImageError as error:  # every caller names the image
            raise FileFormatError(str(error)) from None

    return read


def _tars(folder: Path) -> None:
    import shutil

    from train_samples import packed, squares

    squares(folder / "squares", train=2, test=1)
    packed(folder / "squares", folder / "plain.tar", "w")
    packed(folder / "squares", folder / "packed.tar.gz", "w:gz")
    (folder / "shards").mkdir()
    import tarfile

    for split in ("train", "val"):
        with tarfile.open(folder / "shards" / f"{split}-0.tar", "w") as tar:
            for number, name in enumerate(("blue", "green", "red")):
                image = (folder / "squares" / "train" / name / "000.jpg").read_bytes()
                for suffix, content in (("jpg", image), ("cls", str(number).encode())):
                    member = tarfile.TarInfo(f"{number}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    shutil.rmtree(folder / "squares")


def _opened(*names: str) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        from hwnas.data.sources import open_images

        found = []
        for name in names:
            images = open_images(folder / name)
            found.append((images.classes(), [len(images.read(image)) for image in images.images]))
        return found

    return read


def _answers(folder: Path) -> None:
    """What an agent sends: a greeting of its shell, hello, and a timing."""
    from hwnas.board.agent import VERSION
    from hwnas.board.timing import Rules
    from hwnas.predictors.latency import DeviceProfile

    link = FakeLink()
    link._reference_ms = 1.0
    model = FakeExporter().network_model(preset("uniform-t"), batch=1)
    timing = link.measure(model, rules=Rules(), profile=DeviceProfile(board="B", runtime="fake"))
    stream = io.BytesIO()
    stream.write(b"Welcome to the board\n")
    protocol.write_frame(stream, {"agent": VERSION, **link.hello()})
    protocol.write_frame(stream, timing)
    (folder / "answers").write_bytes(stream.getvalue())


def _read_answers(folder: Path) -> object:
    """As a table build asks a board, which is a process that sends these bytes whatever it is asked."""
    from hwnas.board.timing import Rules
    from hwnas.errors import FileFormatError
    from hwnas.measure.build import measured_profile
    from hwnas.measure.cell_record import CellRecord
    from hwnas.measure.remote.link import AgentLink, CellError

    with AgentLink(["sh", "-c", f"cat {folder}/answers; exec cat >/dev/null"]) as link:

        class Asked:
            hello, close = link.hello, staticmethod(lambda: None)

        asked: Any = Asked()
        profile = measured_profile(lambda: asked, runtime="fake", threads=1, batch=1, precision="fp32")
        try:
            answer = link.measure(b"", rules=Rules(), profile=profile[0], beside=True)
        except CellError as error:  # which a build writes down, and goes on
            raise FileFormatError(str(error)) from None
        return profile, CellRecord.of_answer(answer, kind="op", cell="x", pass_number=0, process=0)


def _frames(folder: Path) -> None:
    stream = io.BytesIO()
    protocol.write_frame(stream, {"files": 1}, protocol.deflated(b"some bytes " * 40))
    protocol.write_frame(stream, {"files": 2}, b"bytes")
    (folder / "frames").write_bytes(stream.getvalue())


def _read_frames(folder: Path) -> object:
    from hwnas.errors import BoardError

    with (folder / "frames").open("rb") as stream:
        try:
            frames = [protocol.read_frame(stream), protocol.read_frame(stream)]
        except protocol.ProtocolError as error:  # as both ends of a link translate it
            raise BoardError(str(error)) from None
    if None in frames:
        raise BoardError("the other end is gone")
    return frames


def in_answers(content: bytes, rng: random.Random) -> bytes:
    """The header of one of the frames; its checksum is made again."""
    stream, out = io.BytesIO(content), io.BytesIO()
    frames = []
    while (frame := protocol.read_frame(stream)) is not None:
        frames.append(frame)
    odd = rng.randrange(len(frames))
    for place, (header, payload) in enumerate(frames):
        head = _dumped(changed_document(header, rng) if place == odd else header)
        if place == odd and rng.random() < 0.1:
            head = rng.choice((b"[" * 5000, b"\xff{}", b"", b"[]", b"nul", b"{" * 90000))
        sizes = protocol._SIZES.pack(len(head), len(payload), 0)
        crc = protocol._CRC.pack(zlib.crc32(payload, zlib.crc32(sizes + head)))
        out.write(protocol.MARK + sizes + crc + head + payload)
    return out.getvalue()


def _checkpoint(folder: Path) -> None:
    import torch
    from train_samples import ARCH, RECIPE

    from hwnas.train import checkpoint
    from hwnas.train.checkpoint import Checkpoint, EpochRecord, TrainingState

    weights = {"a.weight": torch.ones(3, 4), "a.count": torch.tensor(2)}
    checkpoint.save(
        Checkpoint(
            arch=ARCH,
            state_dict=weights,
            classes_names=("blue", "green"),
            recipe=RECIPE,
            history=(EpochRecord(1, 1.0, 10.0, 50.0, 1e-3, 2.0),),
            name="tiny",
            data={"train_images": 36},
            training=TrainingState(
                model={name: tensor + 1 for name, tensor in weights.items()},
                optimizer={
                    "state": {0: {"step": torch.tensor(7.0), "exp_avg": torch.ones(3, 4)}},
                    "param_groups": [{"lr": 0.1, "betas": [0.9, 0.999], "params": [0]}],
                },
                updates=7,
            ),
        ),
        folder / "last.safetensors",
    )


def _plain(value: Any) -> Any:
    """Dataclasses and tensors as data that `==` compares."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {spec.name: _plain(getattr(value, spec.name)) for spec in dataclasses.fields(value)}
    if hasattr(value, "tolist"):
        return str(value.dtype), value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _read_checkpoint(folder: Path) -> object:
    from hwnas.train.checkpoint import load

    return _plain(load(folder / "last.safetensors"))


def _dense_checkpoint(folder: Path) -> None:
    import torch
    from dense_samples import ARCH, RECIPE

    from hwnas.dense import checkpoint

    saved = checkpoint.DenseCheckpoint(
        {"a": torch.ones(2)}, ("circle", "square"), RECIPE, (), arch=ARCH, name="tiny", data={}, task="detect"
    )
    checkpoint.save(saved, folder / "last.safetensors")


def _read_dense_checkpoint(folder: Path) -> object:
    from hwnas.dense.checkpoint import load

    return _plain(load(folder / "last.safetensors"))


def _supernet(folder: Path) -> None:
    import torch
    from supernet_samples import SETTINGS, SPACE

    from hwnas.data.pixels import Pixels
    from hwnas.supernet import checkpoint
    from hwnas.supernet.calibration import Calibration
    from hwnas.supernet.images import EvaluationImages, write_evaluation_images

    saved = checkpoint.Checkpoint(
        {"a": torch.ones(2)}, ("a", "b", "c"), SETTINGS, (), space=SPACE, name="tiny", data={}
    )
    checkpoint.save(saved, folder / checkpoint.WEIGHTS)
    Calibration(90.0, 11.0, 2.0, 8).write(folder, 0)
    some, others = (
        Pixels(torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.long), ("a", "b", "c")) for _ in range(2)
    )
    write_evaluation_images(EvaluationImages(held_back=some, calibration=others), folder)


def _read_supernet(folder: Path) -> object:
    from hwnas.supernet.calibration import Calibration
    from hwnas.supernet.checkpoint import WEIGHTS, load
    from hwnas.supernet.images import read_evaluation_images

    return (
        _plain(load(folder / WEIGHTS)),
        Calibration.read(folder, 0),
        _plain(read_evaluation_images(folder)),
    )


@cache
def _exported(model_format: str) -> dict[str, bytes]:
    """The files of an exported network, with its card."""
    from train_samples import ARCH

    from hwnas.export.classifier import ExportSettings, export_classifier
    from hwnas.export.timing.random_weights import randomise
    from hwnas.nn import build

    suffix = {"onnx": ".onnx", "exported-program": ".pt2"}[model_format]
    with tempfile.TemporaryDirectory() as folder:
        network = randomise(build(ARCH)).eval()
        settings = ExportSettings(model_format=model_format)
        export_classifier("tiny", network, Path(folder) / f"model{suffix}", settings)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


def _export(model_format: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for name, content in _exported(model_format).items():
            (folder / name).write_bytes(content)

    return make


def _read_exported(name: str, runtime: str) -> Callable[[Path], object]:
    """As `hwnas measure FILE` and `hwnas predict FILE` do, up to the runtime's own reader."""

    def read(folder: Path) -> object:
        from hwnas.export.exported_file import find_exported
        from hwnas.export.metadata import metadata_in

        found = find_exported(folder / name)
        return found.card, len(found.model(runtime)), metadata_in(folder / name)

    return read


def in_onnx(content: bytes, rng: random.Random) -> bytes:
    """The hwnas metadata inside an ONNX file, or the name of one of its tensors' files."""
    import onnx

    model = onnx.load_model_from_string(content)
    entry = next(entry for entry in model.metadata_props if entry.key == "hwnas")
    if rng.random() < 0.8:
        text = json.dumps(changed_document(json.loads(entry.value), rng))
        entry.value = text.encode("utf-8", "replace").decode()
    else:
        tensor = rng.choice(list(model.graph.initializer))
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key=rng.choice(("location", "x")), value=rng.choice(("/etc/passwd", "../w")))
    whole: bytes = model.SerializeToString()
    return whole


def in_pt2(content: bytes, rng: random.Random) -> bytes:
    def change(member: bytes, rng: random.Random) -> bytes:
        if rng.random() < 0.7:
            try:
                return in_json(member, rng)
            except ValueError:
                pass
        return damaged(member, rng) if member else b"\x80\x04."

    if rng.random() < 0.2:  # odd packing
        stream = io.BytesIO()
        method = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w", method) as new:
            for name in old.namelist():
                new.writestr(name, old.read(name))
        return damaged(stream.getvalue(), rng)
    return changed_json_in_zip(content, rng, change)


def _history(folder: Path) -> None:
    rows = [
        {
            "epoch": n,
            "loss": 1.0 / n,
            "top1_percent": 10.0 * n,
            "top5_percent": 50.0,
            "lr": 0.1,
            "seconds": 2.0,
        }
        for n in range(1, 4)
    ]
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _read_history(folder: Path) -> object:
    from hwnas.train.history import read_history

    return read_history(folder)


def _config(folder: Path) -> None:
    (folder / "config.yaml").write_text(
        yaml.safe_dump(
            {"describe": {"device": "rpi4", "json": True}, "search": {"trials": 50, "limit": {"params": 6}}}
        )
    )


def _read_config(folder: Path) -> object:
    from hwnas.cli import app

    return app._defaults(folder / "config.yaml", app._command("describe"), "describe")


def _csv(folder: Path) -> None:
    rows = [["network", "ms"], ["uniform-t", "10.5"], ["shvit-s1", "8.25"], ["efficientvit-m0", "5.0"]]
    with (folder / "measured.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def _read_csv(folder: Path) -> object:
    from hwnas.measure.transfer_measurements import read_measurements
    from hwnas.named import resolve_arch

    return read_measurements(folder / "measured.csv", resolve_arch)


def _lines_of(read: Callable[[Path], object], name: str) -> Callable[[Path], object]:
    return lambda folder: read(folder / name)


def _readers() -> dict[str, Reader]:
    from hwnas.measure.samples import SAMPLES, read_samples
    from hwnas.predictors.accuracy._scores import SCORES, Scores
    from hwnas.predictors.accuracy.short_training import CURVES
    from hwnas.predictors.latency.measurements import recorded
    from hwnas.predictors.latency.runtime_versions import _read as read_checks
    from hwnas.search.candidates import CANDIDATE_LOG
    from hwnas.search.run import PROGRESS_LOG
    from hwnas.train.trainings import TRAININGS, read_trainings
    from hwnas.tune.record import read_states

    return {
        "arch": Reader(
            _write("net.yaml", preset("uniform-t").to_yaml()), ("net.yaml",), _arch, change=in_yaml
        ),
        "space": Reader(_write("space.yaml", yaml.safe_dump(SMALL)), ("space.yaml",), _space, change=in_yaml),
        "table": Reader(_two_tables, ("table.yaml", "rows.yaml"), _tables, True, change=in_table),
        "table head": Reader(_two_tables, ("table.yaml", "rows.yaml"), _summaries, False, change=in_table),
        "version checks": Reader(
            _version_checks,
            ("t.checks.json",),
            _lines_of(read_checks, "t.checks.json"),
            False,
            change=in_json,
        ),
        "run.yaml": Reader(_run_folder, ("run.yaml",), _run, True, change=in_yaml),
        "candidates.jsonl": Reader(
            _run_folder, ("candidates.jsonl",), _run, True, lambda run: run.trials, in_log(CANDIDATE_LOG)
        ),
        "progress.jsonl": Reader(
            _arrays_folder, ("progress.jsonl",), _run, True, lambda run: run.epochs, in_log(PROGRESS_LOG)
        ),
        "verification.json": Reader(_verified_folder, ("verification.json",), _run, True, change=in_json),
        "measurements.json": Reader(
            _measurements,
            ("measurements.json",),
            lambda folder: recorded(folder, "abc"),
            True,
            change=in_json,
        ),
        "trainings.jsonl": Reader(
            _log_of(TRAININGS, "trainings.jsonl", "trainings.jsonl"),
            ("trainings.jsonl",),
            read_trainings,
            True,
            rows=lambda found: found,
            change=in_log(TRAININGS),
        ),
        "scores": Reader(
            _log_of(SCORES, "scores.jsonl", "scores.jsonl"),
            ("scores.jsonl",),
            lambda folder: Scores(folder / "scores.jsonl")._known,
            True,
            rows=lambda known: list(known.items()),
            change=in_log(SCORES),
        ),
        "learning curves": Reader(
            _log_of(CURVES, "curves.jsonl", "curves.jsonl"),
            ("curves.jsonl",),
            _lines_of(lambda path: read_log(path, CURVES), "curves.jsonl"),
            True,
            rows=lambda found: found.rows,
            change=in_log(CURVES),
        ),
        "samples": Reader(
            _log_of(SAMPLES, "board.samples", "board.samples"),
            ("board.samples",),
            _lines_of(read_samples, "board.samples"),
            True,
            rows=lambda found: found.rows,
            change=in_log(SAMPLES),
        ),
        "contest.json": Reader(_states, ("contest.json",), read_states, True, change=in_json),
        "history.jsonl": Reader(_history, ("history.jsonl",), _read_history, False, change=in_json_line),
        "recipe": Reader(
            _recipes,
            ("small.yaml", "imagenet-distilled.yaml", "finetune-384.yaml"),
            _read_recipes,
            False,
            change=in_yaml,
        ),
        "dense recipe": Reader(_make_dense_recipe, ("coco.yaml",), _dense_recipe, False, change=in_yaml),
        "configuration": Reader(_config, ("config.yaml",), _read_config, False, change=in_yaml),
        "measured networks": Reader(_csv, ("measured.csv",), _read_csv),
        "COCO": Reader(
            _coco, ("train/annotations.json", "val/annotations.json"), _read_coco, False, change=in_json
        ),
        **{
            f"image {kind}": Reader(_images, (kind,), _decoded(kind))
            for kind in (*IMAGE_KINDS, "16.tiff", "float.tiff")
        },
        "tar": Reader(_tars, ("plain.tar",), _opened("plain.tar"), False, change=changed_tar),
        "tar.gz": Reader(_tars, ("packed.tar.gz",), _opened("packed.tar.gz")),
        "shards": Reader(_tars, ("shards/train-0.tar",), _opened("shards"), False, change=changed_tar),
        "board answers": Reader(_answers, ("answers",), _read_answers, True, change=in_answers),
        "board frames": Reader(_frames, ("frames",), _read_frames, True, lambda frames: frames, in_answers),
        "checkpoint": Reader(_checkpoint, ("last.safetensors",), _read_checkpoint, True, change=in_sealed),
        "dense checkpoint": Reader(
            _dense_checkpoint, ("last.safetensors",), _read_dense_checkpoint, True, change=in_sealed
        ),
        "supernet": Reader(_supernet, ("weights.safetensors",), _read_supernet, True, change=in_sealed),
        "supernet images": Reader(_supernet, ("images.safetensors",), _read_supernet, True, change=in_sealed),
        "supernet calibration": Reader(
            _supernet, ("calibration.json",), _read_supernet, True, change=in_json
        ),
        "ONNX": Reader(
            _export("onnx"),
            ("model.onnx",),
            _read_exported("model.onnx", "onnxruntime"),
            False,
            change=in_onnx,
        ),
        "model card": Reader(
            _export("onnx"),
            ("model.onnx.card.json",),
            _read_exported("model.onnx", "onnxruntime"),
            False,
            change=in_json,
        ),
        "pt2": Reader(
            _export("exported-program"),
            ("model.pt2",),
            _read_exported("model.pt2", "torch"),
            False,
            change=in_pt2,
        ),
    }


READERS: dict[str, Reader] = _readers()
