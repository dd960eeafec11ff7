"""Any damage to any file that is read: an error with an exit code, or nothing changed. See `fuzz_readers`.

A few inputs for each reader here; `experiments/hard_use/fuzz.py` tries as many as there is time for.
"""

from __future__ import annotations

import importlib.util
import io
import json
import random
import string
from pathlib import Path
from typing import Any

import pytest
from fuzz_mutations import damaged
from fuzz_readers import IMAGE_KINDS, READERS
from hypothesis import given, settings
from hypothesis import strategies as st
from search_fakes import SMALL

from hwnas.board import protocol
from hwnas.errors import FileFormatError, HwnasError, SpaceError, UsageError
from hwnas.io import json as json_io
from hwnas.io import yaml as yaml_io
from hwnas.io.jsonl import Kind, Log, read_log
from hwnas.space import ArchSpec, SearchSpace, lower

NEEDS = {
    "checkpoint": "torch",
    "dense checkpoint": "torch",
    "supernet": "torch",
    "ONNX": "onnxruntime",
    "supernet images": "torch",
    "supernet calibration": "torch",
    "model card": "onnxruntime",
    "pt2": "torch",
    "learning curves": "torch",
}
SLOW = ("pt2", "model card", "ONNX", "board answers")
INPUTS = 60
NO_INPUT = (ValueError, TypeError, OverflowError, AttributeError, KeyError, RuntimeError, UsageError)
"""What writing raises for a value that such a file cannot hold."""

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\x7f\x85", min_codepoint=32), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(string.printable[:94], max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)
KIND = Kind("hwnas test lines", noun="a line of a test", fix="Delete it")


@pytest.mark.parametrize("name", [name for name in READERS if name.partition(" ")[2] not in IMAGE_KINDS])
def test_damage_is_an_error_with_an_exit_code_or_changes_nothing(name: str, tmp_path: Path) -> None:
    if (package := NEEDS.get(name)) and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    reader = READERS[name]
    reader.make(tmp_path)
    whole = {file: (tmp_path / file).read_bytes() for file in reader.files}
    meaning = reader.read(tmp_path)
    for number in range(8 if name in SLOW else INPUTS):
        rng = random.Random(f"{name} {number}")
        file = rng.choice(reader.files)
        sealed = reader.change is not None and number % 2 == 1
        try:
            content = reader.change(whole[file], rng) if sealed else damaged(whole[file], rng)  # type: ignore[misc]
        except NO_INPUT:
            continue
        (tmp_path / file).write_bytes(content)
        try:
            found = reader.read(tmp_path)
        except HwnasError as error:
            assert str(error) and 1 <= error.exit_code <= 6
        else:
            assert sealed or not reader.checked or reader.agrees(found, meaning), f"input {number} of {file}"
        (tmp_path / file).write_bytes(whole[file])


@given(PLAIN)
def test_plain_data_come_back_from_yaml_as_they_were(data: Any) -> None:
    assert yaml_io.parse(yaml_io.dump({"data": data}), source="s") == {"data": data}


@given(
    st.dictionaries(st.text(string.ascii_letters, min_size=1), PLAIN, max_size=4),
    st.randoms(use_true_random=False),
)
def test_a_document_with_a_checksum_is_itself_or_refused(
    document: dict[str, Any], rng: random.Random
) -> None:
    document.pop("checksum", None)
    text = json_io.sealed(document)
    json_io.require_checksum(json_io.strict(text), has_one=True)
    content = damaged(text.encode(), rng)
    try:
        found = json_io.strict(content)
        json_io.require_checksum(found, has_one=True)
    except (ValueError, AttributeError):
        return
    assert {key: value for key, value in found.items() if key != "checksum"} == document


@given(
    rows=st.lists(
        st.dictionaries(st.text(string.ascii_letters, min_size=1, max_size=5), PLAIN, min_size=1),
        min_size=1,
        max_size=5,
        unique_by=repr,  # a line that is there twice counts once
    )
)
@settings(max_examples=25)
def test_rows_come_back_from_a_log_and_no_changed_byte_is_missed(
    rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    rows = [{key: value for key, value in row.items() if key != "crc"} for row in rows]
    with Log(path, KIND, of={"a": 1}) as log:
        log.extend(rows)
    assert read_log(path, KIND).rows == rows
    whole, rng = path.read_bytes(), random.Random(0)
    for place in rng.sample(range(len(whole) - 1), min(20, len(whole) - 1)):
        changed = bytearray(whole)
        changed[place] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        try:
            assert read_log(path, KIND).rows == rows[: len(read_log(path, KIND).rows)]
        except FileFormatError:
            continue


@given(
    header=st.dictionaries(st.text(max_size=5), PLAIN, max_size=4),
    payload=st.binary(max_size=80),
    deflate=st.booleans(),
    noise=st.binary(max_size=20),
    rng=st.randoms(use_true_random=False),
)
def test_a_frame_comes_through_noise_and_damage_is_no_other_frame(
    header: dict[str, Any], payload: bytes, deflate: bool, noise: bytes, rng: random.Random
) -> None:
    stream = io.BytesIO()
    protocol.write_frame(stream, header, protocol.deflated(payload) if deflate else payload)
    frame = stream.getvalue()
    read = protocol.read_frame(io.BytesIO(noise.replace(b"\0", b"") + frame))
    assert read == (json.loads(json.dumps(header)), payload)
    place = rng.randrange(len(frame))
    changed = bytearray(frame)
    changed[place] ^= 1 << rng.randrange(8)
    try:
        found = protocol.read_frame(io.BytesIO(changed))
    except protocol.ProtocolError:
        return
    assert found in (None, read)


@given(st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_each_network_of_any_space_is_that_of_its_vector_and_its_file(rng: random.Random) -> None:
    def some(values: list[Any]) -> list[Any]:
        return sorted(rng.sample(values, rng.randrange(1, len(values) + 1)))

    stages = [
        {
            "width": some([16, 24, 32, 48, 64, 96]),
            "depth": some([1, 2, 3]),
            "ffn_ratio": some([1, 2, 3, 4]),
            "layout": rng.sample(["sandwich", "dw-attention-ffn"], rng.randrange(1, 3)),
        }
        for _ in range(rng.randrange(1, 4))
    ]
    try:
        space = SearchSpace.from_dict(SMALL | {"stages": stages, "resolution": some([32, 64, 96])})
    except SpaceError:
        return  # an attention that fits no width of it
    assert SearchSpace.from_dict(space.to_dict()) == space
    for _ in range(5):
        arch = space.sample(rng)
        vector = space.encode(arch)
        assert space.repair(vector) == vector and space.decode(vector).id == arch.id
        again = ArchSpec.from_yaml(arch.to_yaml())
        assert again.id == arch.id and [op.key for op in lower(again)] == [op.key for op in lower(arch)]


def test_changes_reach_what_they_are_to_change() -> None:
    """The damage itself: most inputs differ from the whole file, and the same number gives the same input."""
    whole = b"some bytes that are read\n" * 9
    changed = [damaged(whole, random.Random(number)) for number in range(200)]
    assert sum(one != whole for one in changed) > 180
    assert changed == [damaged(whole, random.Random(number)) for number in range(200)]
