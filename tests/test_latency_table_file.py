"""Table files: what is written comes back, and what is wrong is refused in one line that says why."""

from __future__ import annotations

import dataclasses
import math
import random
from pathlib import Path

import pytest

from hwnas.errors import FileFormatError, MissingOpError, UsageError
from hwnas.io import json as json_io
from hwnas.io import yaml as yaml_io
from hwnas.predictors.latency import (
    Calibration,
    Coefficients,
    DeviceProfile,
    HeldOut,
    HeldOutNetwork,
    LatencyTable,
    Row,
    read_summary,
)
from hwnas.predictors.latency.residual import Residual
from hwnas.predictors.latency.table_file import table_text
from hwnas.space import lower, preset

PROFILE = DeviceProfile("A board", "onnxruntime", "1.31.1", threads=2, batch=1)
KEY = "dw(c=64,side=14)"


def rows_table(**changes: object) -> LatencyTable:
    """Rows of all of UniForm-t's ops, one of them filled, one disturbed."""
    ops = {op.key: op for op in lower(preset("uniform-t"))}
    rows = {
        key: Row(n / 100, n / 125, n / 80, n / 50)  # a few digits each, as a file holds them
        for n, key in enumerate(ops, start=1)
    }
    filled, disturbed = list(rows)[-1], next(iter(rows))
    rows[filled] = Row(0.5, 0.4, 0.6, filled=True)
    rows[disturbed] = dataclasses.replace(rows[disturbed], disturbed=True)
    table = LatencyTable(
        name="mine",
        profile=PROFILE,
        provenance="measured",
        rows=rows,
        calibration=Calibration(
            {"ffn": 1.1, "dw": 0.9},
            1.05,
            0.02,
            -0.0005,
            0.03,
            8.0,
            networks=20,
            residual=Residual(
                (1.0, 2.0, 3.0, 4.0), (0.5, 0.5, 0.5, 0.5), 2.0, ((0.1, 0.2, -0.3, 0.4),), (0.01,)
            ),
        ),
        heldout=HeldOut((HeldOutNetwork("uniform-t", 2.0, 2.1), HeldOutNetwork("12e456789012", 4.0, 3.9))),
        environment={"kernel": "6.1", "load": 0.25, "governor": None},
        measurement={"passes": 3, "fill_error_percent": {"dw": 1.5}},
        notes=("Measured: for a test.",),
        created="2026-11-21",
    )
    return dataclasses.replace(table, **changes)  # type: ignore[arg-type]


def coefficients_table(profile: DeviceProfile | None = None) -> LatencyTable:
    return LatencyTable(
        name="theirs",
        profile=profile or DeviceProfile("Another board", "onnxruntime"),
        provenance="estimated",
        coefficients=Coefficients((1e-7, 2e-7, 3e-7, 1e-8, 1e-9, 0.01), offset_ms=0.5),
        heldout=HeldOut((HeldOutNetwork("a", 2.0, 2.5),), "leave-one-family-out"),
        created="2026-11-21",
    )


@pytest.mark.parametrize("table", [rows_table(), coefficients_table()], ids=["rows", "coefficients"])
def test_what_is_written_comes_back(table: LatencyTable, tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    table.save(path)
    read = LatencyTable.load(path)
    assert read == table
    assert read.digest == table.digest
    assert [file.name for file in tmp_path.iterdir()] == ["t.yaml"]


def test_a_table_of_the_first_schema_is_still_read() -> None:
    table = coefficients_table()
    first = yaml_io.parse(table_text(table), source="t")
    first["schema"] = 1
    first["checksum"] = json_io.checksum(first)
    assert LatencyTable.parse(yaml_io.dump(first), source="t") == table


def test_a_table_of_the_second_schema_is_written_as_ever_and_read() -> None:
    text = table_text(rows_table())
    assert "\nschema: 2\n" in text and "inferred" not in text
    assert LatencyTable.parse(text, source="t").profile.inferred == {}


def test_what_is_inferred_comes_back_and_takes_the_third_schema() -> None:
    profile = dataclasses.replace(PROFILE, inferred={"threads": "four cores, by arithmetic"})
    table = coefficients_table(profile=profile)
    text = table_text(table)
    assert "\nschema: 3\n" in text
    assert LatencyTable.parse(text, source="t") == table
    assert profile.shown("threads") == "unknown, inferred: 2" and profile.shown("precision") == "fp32"
    assert table.digest != coefficients_table(profile=PROFILE).digest


def test_a_seventh_coefficient_comes_back_and_takes_the_fourth_schema() -> None:
    table = coefficients_table()
    assert table.coefficients is not None
    seven = dataclasses.replace(table.coefficients, values=(*table.coefficients.values, 2e-9))
    more = dataclasses.replace(table, coefficients=seven)
    text = table_text(more)
    assert "\nschema: 4\n" in text and "unfused_bytes: 2.0e-09" in text
    assert LatencyTable.parse(text, source="t") == more
    ops = lower(preset("uniform-t"))
    unfused_ms = 2e-9 * sum(op.unfused_bytes() for op in ops)
    assert more.predict_ops(ops).value == pytest.approx(table.predict_ops(ops).value + unfused_ms)


def test_only_settings_can_be_inferred() -> None:
    with pytest.raises(UsageError, match="inferred may name .* got 'board'"):
        DeviceProfile("A board", "onnxruntime", inferred={"board": "by its name"})


def test_a_run_holds_the_whole_batch() -> None:
    profile = DeviceProfile("A GPU", "torch", batch=256)
    assert profile.images_per_s(10.0) == pytest.approx(25_600)
    assert profile.run_ms(25_600) == pytest.approx(10.0)


def test_the_digest_changes_with_the_content() -> None:
    table = rows_table()
    assert table.digest != rows_table(created="2026-11-22").digest
    assert len(table.digest) == 64


def test_line_endings_do_not_change_the_content() -> None:
    text = table_text(rows_table())
    assert LatencyTable.parse(text.replace("\n", "\r\n"), source="t") == rows_table()


def test_a_summary_says_what_the_table_says_without_its_rows(tmp_path: Path) -> None:
    table = rows_table()
    table.save(tmp_path / "t.yaml")
    summary = read_summary(tmp_path / "t.yaml")
    assert (summary.name, summary.profile, summary.provenance) == ("mine", PROFILE, "measured")
    assert summary.heldout == table.heldout
    assert (summary.measured_rows, summary.filled_rows) == (len(table.rows) - 1, 1)
    coefficients_table().save(tmp_path / "c.yaml")
    assert read_summary(tmp_path / "c.yaml").measured_rows == 0


def test_an_empty_table_is_refused() -> None:
    for text in ("", "\n", "# only a comment\n"):
        with pytest.raises(FileFormatError, match=r"t\.yaml: "):
            LatencyTable.parse(text, source="t.yaml")


def test_a_table_truncated_anywhere_is_refused() -> None:
    text = table_text(rows_table())
    for length in range(0, len(text) - 2, 37):
        with pytest.raises(FileFormatError, match=r"^t\.yaml: "):
            LatencyTable.parse(text[:length], source="t.yaml")


@pytest.mark.parametrize(
    "bad", [".nan", ".inf", "-.inf", "0", "0.0", "-0.5", "1e400", "true", "'0.1'", "null"]
)
def test_a_number_that_is_no_time_is_refused_with_its_key(bad: str) -> None:
    text = table_text(rows_table())
    line = next(line for line in text.splitlines() if line.strip().startswith(KEY))
    values = line.partition("[")[2].split(",")
    broken = text.replace(line, f"  {KEY}: [{bad},{','.join(values[1:])}")
    with pytest.raises(FileFormatError, match=r"rows\.dw\(c=64,side=14\) \(ms\): must be .*, got") as caught:
        LatencyTable.parse(broken, source="t.yaml")
    assert "\n" not in str(caught.value)


def test_a_row_whose_ends_are_in_the_wrong_order_is_refused() -> None:
    table = rows_table()
    rows = {**table.rows, KEY: Row(0.01, 0.02, 0.03, 0.03)}
    with pytest.raises(FileFormatError, match="low_ms <= ms <= high_ms"):
        LatencyTable.parse(table_text(rows_table(rows=rows)), source="t.yaml")


def test_a_key_given_twice_is_refused() -> None:
    text = table_text(rows_table())
    line = next(line for line in text.splitlines() if line.strip().startswith(KEY))
    with pytest.raises(FileFormatError, match=r"a key may appear once, got 'dw\(c=64,side=14\)'"):
        LatencyTable.parse(text.replace(line, f"{line}\n{line}"), source="t.yaml")


@pytest.mark.parametrize(
    ("line", "told"), [("", "got nothing"), ("unit: us\n", "got 'us'"), ("unit: s\n", "got 's'")]
)
def test_a_missing_or_other_unit_is_refused(line: str, told: str) -> None:
    with pytest.raises(FileFormatError, match=f"unit: must be 'ms', {told}"):
        LatencyTable.parse(table_text(rows_table()).replace("unit: ms\n", line), source="t.yaml")


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"threads": 4}, "threads: the table has 2, requested 4"),
        ({"batch": 16}, "batch: the table has 1, requested 16"),
        ({"runtime": "ncnn"}, "runtime: the table has onnxruntime, requested ncnn"),
        ({"runtime_version": "1.19"}, "runtime_version: the table has 1.31.1, requested 1.19"),
        ({"precision": "int8"}, "precision: the table has fp32, requested int8"),
    ],
)
def test_another_configuration_than_asked_for_is_refused(wanted: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        PROFILE.check(table="mine", **wanted)
    PROFILE.check(table="mine", allow_mismatch=True, **wanted)
    PROFILE.check(table="mine", threads=2, batch=None)


def test_missing_ops_are_listed_and_never_zero() -> None:
    table = rows_table()
    arch = preset("shvit-s1")
    missing = table.missing(lower(arch))
    assert missing
    assert set(missing).isdisjoint(table.rows)
    with pytest.raises(MissingOpError, match=f"no row for {len(missing)} op") as caught:
        table.predict(arch)
    assert caught.value.keys == missing
    assert caught.value.exit_code == 6
    assert coefficients_table().missing(lower(arch)) == ()


@pytest.mark.parametrize(
    ("schema", "told"), [("5", "upgrade"), ("99", "upgrade"), ("0", "at least 1"), ("'1'", "whole number")]
)
def test_a_schema_that_is_not_read_is_refused(schema: str, told: str) -> None:
    with pytest.raises(FileFormatError, match=told):
        LatencyTable.parse(
            table_text(rows_table()).replace("schema: 2\n", f"schema: {schema}\n"), source="t.yaml"
        )


def test_a_flipped_bit_is_never_read_as_another_table(tmp_path: Path) -> None:
    table = rows_table()
    data = table_text(table).encode()
    rng = random.Random(0)
    path = tmp_path / "t.yaml"
    for _ in range(300):
        place, bit = rng.randrange(len(data)), rng.randrange(8)
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])
        try:
            assert LatencyTable.load(path) == table  # white space, or another way to write a number
        except FileFormatError as error:
            assert str(error).startswith(str(path))


def test_an_edited_number_is_a_checksum_error() -> None:
    text = table_text(rows_table())
    with pytest.raises(FileFormatError, match="checksum: the content does not match"):
        LatencyTable.parse(text.replace("offset_ms: 0.02", "offset_ms: 0.03"), source="t.yaml")


def test_an_alias_bomb_is_refused_at_once() -> None:
    bomb = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
    )
    with pytest.raises(FileFormatError, match="aliases"):
        LatencyTable.parse(bomb, source="t.yaml")


@pytest.mark.parametrize("depth", [yaml_io.MAX_DEPTH, 5000])
def test_deep_nesting_is_refused(depth: int) -> None:
    """The second depth is beyond a limit that PyYAML 6.0.4 has of its own, too."""
    with pytest.raises(FileFormatError, match="deep"):
        LatencyTable.parse("rows: " + "[" * depth + "]" * depth, source="t.yaml")


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    with path.open("wb") as file:
        file.truncate(2**30)
    for read in (LatencyTable.load, read_summary):
        with pytest.raises(FileFormatError, match=f"at most {yaml_io.MAX_BYTES} bytes"):
            read(path)


def test_disturbed_rows_are_marked() -> None:
    assert len(rows_table().disturbed) == 1
    assert LatencyTable.parse(table_text(rows_table()), source="t").disturbed == rows_table().disturbed


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "provenance: measured",
            "provenance: guessed",
            "provenance: must be one of measured, transferred, estimated, got 'guessed'",
        ),
        ("row_counts:", "row_count:", "row_count: no such field. Did you mean 'row_counts'"),
        ("threads: 2", "threads: 0", "profile.threads must be a whole number of at least 1"),
        ("threads: 2", "threads: two", "profile.threads must be a whole number"),
        ("name: mine", "name: 3", "name: must be text, got 3"),
        ("format: hwnas latency table", "format: other", "not a latency table"),
        ("networks: 20", "networks: -1", "calibration.networks: must be a whole number of at least 0"),
    ],
)
def test_a_field_that_breaks_a_rule_is_named(old: str, new: str, told: str) -> None:
    text = table_text(rows_table())
    assert old in text
    with pytest.raises(FileFormatError, match=told.replace(".", r"\.").replace("(", r"\(")):
        LatencyTable.parse(text.replace(old, new, 1), source="t.yaml")


def test_a_table_of_no_rows_and_no_coefficients_cannot_be_made() -> None:
    with pytest.raises(UsageError, match="either rows or coefficients"):
        LatencyTable(name="x", profile=PROFILE, provenance="measured")


def test_negative_or_missing_coefficients_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        Coefficients((1.0, 1.0, 1.0, 1.0, 1.0, -1.0))
    with pytest.raises(ValueError, match="6 coefficients, got 5"):
        Coefficients((1.0,) * 5)


# --- caveats ---


def test_a_measured_table_of_before_is_of_the_reference_graph_and_says_so(tmp_path: Path) -> None:
    """Files without `measurement.graph` were measured before the graph was recorded."""
    old = dataclasses.replace(rows_table(), measurement={"passes": 3})
    old.save(tmp_path / "old.yaml")
    read = LatencyTable.load(tmp_path / "old.yaml")
    assert read.caveats == read_summary(tmp_path / "old.yaml").caveats
    (caveat,) = read.caveats
    assert caveat.startswith("measured on the reference graph of networks; exported files take 0.86 to 1.01")


def test_a_table_of_the_deployment_graph_and_an_estimated_one_have_no_caveat() -> None:
    assert dataclasses.replace(rows_table(), measurement={"graph": "deployment 1"}).caveats == ()
    assert coefficients_table().caveats == ()


def test_a_noisy_table_says_why(tmp_path: Path) -> None:
    noisy = {
        "graph": "deployment 1",
        "noisy": {"spread_percent": 7.5, "reason": "networks differed by 7.5 %"},
    }
    dataclasses.replace(rows_table(), measurement=noisy).save(tmp_path / "noisy.yaml")
    read = LatencyTable.load(tmp_path / "noisy.yaml")
    assert read.caveats == ("noisy measurement: networks differed by 7.5 %",)
    assert read.measurement["noisy"]["spread_percent"] == 7.5


def test_the_interval_holds_for_one_fresh_timing(tmp_path: Path) -> None:
    """A held-out time is a median of processes; one process alone deviates more."""
    rng = random.Random(0)
    networks = tuple(
        HeldOutNetwork(f"n{number}", measured_ms=5 * math.exp(rng.gauss(0, 0.01)), predicted_ms=5.0)
        for number in range(200)
    )
    plain = HeldOut(networks)
    fresh = dataclasses.replace(plain, fresh_std=0.02)
    timings = [5 * math.exp(rng.gauss(0, 0.01) + rng.gauss(0, 0.02)) for _ in range(4000)]

    def coverage(evidence: HeldOut) -> float:
        factor = evidence.factor(0.9)
        return sum(5 / factor <= ms <= 5 * factor for ms in timings) / len(timings)

    assert coverage(plain) < 0.6
    assert coverage(fresh) == pytest.approx(0.9, abs=0.02)
    table = dataclasses.replace(rows_table(), heldout=fresh)
    table.save(tmp_path / "t.yaml")
    read = LatencyTable.load(tmp_path / "t.yaml")
    assert read.heldout.fresh_std == 0.02
    estimate = read.predict(preset("uniform-t"))
    assert estimate.high == pytest.approx(estimate.value * fresh.factor(0.9), rel=1e-4)
    assert "fresh_std" not in table_text(dataclasses.replace(rows_table(), heldout=plain))


def test_an_estimated_table_says_which_publication_its_interval_does_not_hold() -> None:
    held = {"networks": 9, "in_90_percent_interval_percent": 100.0}
    missed = {"networks": 11, "in_90_percent_interval_percent": 54.5, "own_interval_factor": 2.99}
    facts = {"out_of_sample": {"ncnn": held, "TFLite FP16": missed}}
    (caveat,) = dataclasses.replace(coefficients_table(), measurement=facts).caveats
    assert "that TFLite FP16 gives for this board, the interval holds 54.5 %" in caveat
    assert "a factor of 2.99" in caveat
    assert dataclasses.replace(coefficients_table(), measurement={"out_of_sample": "none"}).caveats == ()
