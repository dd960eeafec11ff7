"""A table from a file of milliseconds: architectures, and graphs that hwnas has no architecture of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from latency_fakes import network_ms, small_space
from test_transferred import known_tables

from hwnas.errors import FileFormatError
from hwnas.measure.transfer_build import transfer_table
from hwnas.measure.transfer_candidates import draw_candidates
from hwnas.measure.transfer_measurements import Measurements, read_measurements, with_measurements
from hwnas.named import resolve_arch
from hwnas.predictors.latency import FEATURE_NAMES, DeviceProfile, LatencyTable, features
from hwnas.space import lower, preset

PRESETS = ("uniform-t", "uniform-s", "uniform-m", "uniform-l", "shvit-s1", "shvit-s2", "shvit-s3",
           "efficientvit-m0", "efficientvit-m2", "efficientvit-m4")  # fmt: skip
HEADER = "network,ms," + ",".join(FEATURE_NAMES) + ",by-rows\n"


def graph_row(name: str, known: LatencyTable, *, factor: float = 1.0) -> str:
    """A preset as a file would have it that knows nothing of its architecture."""
    arch = preset(name)
    counted = features(lower(arch))
    values = [factor * network_ms(arch), *counted.values(), known.predict(arch).value]
    return f"graph of {name}," + ",".join(f"{value:.6g}" for value in values) + "\n"


def measurements(tmp_path: Path, text: str) -> Measurements:
    file = tmp_path / "board.csv"
    file.write_text(text)
    return read_measurements(file, resolve_arch)


def table_from(measured: Measurements, tables: list[LatencyTable], **options: str) -> LatencyTable:
    space = small_space()
    drawn = draw_candidates(space, tables, seed=0)
    candidates, told, known = with_measurements(drawn, measured, tables)
    return transfer_table(
        candidates,
        measured.ms,
        name="new",
        profile=DeviceProfile(board="Fake Board", runtime="ncnn"),
        space=space,
        created="2026-11-30",
        frames=(told, known),
        **options,
    )


def test_graphs_tell_a_table_that_predicts_architectures(tmp_path: Path) -> None:
    known = known_tables(small_space())[:1]
    measured = measurements(tmp_path, HEADER + "".join(graph_row(name, known[0]) for name in PRESETS))
    assert measured.has_graphs and measured.known == ("by-rows",)
    table = table_from(measured, known)
    for name in ("uniform-t", "uniform-m", "shvit-s2"):
        assert table.predict(preset(name)).value == pytest.approx(network_ms(preset(name)), rel=0.15)


def test_the_evidence_has_each_network_of_the_file_predicted_without_it(tmp_path: Path) -> None:
    known = known_tables(small_space())[:1]
    rows = "".join(graph_row(name, known[0]) for name in PRESETS[1:])
    odd = graph_row(PRESETS[0], known[0], factor=10)
    table = table_from(measurements(tmp_path, HEADER + rows + odd), known)
    held = {one.label: one for one in table.heldout.networks}
    assert held.keys() == {f"graph of {name}" for name in PRESETS}
    one = held[f"graph of {PRESETS[0]}"]
    assert one.predicted_ms < 0.3 * one.measured_ms  # a fit that saw it would come near it


@pytest.mark.slow
def test_a_table_of_published_figures_is_called_estimated_and_names_its_source(tmp_path: Path) -> None:
    tables = known_tables(small_space())
    text = "# a comment\nnetwork,ms\n" + "".join(f"{name},{network_ms(preset(name))}\n" for name in PRESETS)
    measured = measurements(tmp_path, text)
    assert not measured.has_graphs
    assert table_from(measured, tables).provenance == "transferred"
    table = table_from(measured, tables, source="A Paper, Table 9")
    assert table.provenance == "estimated" and "A Paper, Table 9" in " ".join(table.notes)
    errors = [table.predict(preset(name)).value / network_ms(preset(name)) - 1 for name in PRESETS]
    assert np.median(np.abs(errors)) < 0.1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("network\nuniform-t\n", "columns network and ms"),
        ("network,ms\nuniform-t,fast\n", "row 1: ms must be a positive number, got 'fast'"),
        ("network,ms\nuniform-t,-3\n", "got '-3'"),
        ("network,ms\nuniform-t,inf\n", "got 'inf'"),
        ("network,ms\nuniform-x,3\n", "row 1: no architecture 'uniform-x'"),
        ("network,ms\nuniform-t,3\nuniform-t,4\n", "row 2: 'uniform-t' is there twice"),
        ("network,ms\n,3\n", "network is empty"),
        ("network,ms,nodes\nuniform-t,3,5\n", "a graph needs all of"),
        (HEADER + "mine,3,1,1,1,1,1,1,\n", "needs its milliseconds on a known device"),
        (HEADER + "mine,3,1,1,1,1,1,many,2\n", "nodes must be a positive number"),
    ],
)
def test_a_file_that_breaks_a_rule_is_refused_with_its_row(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(FileFormatError, match=told):
        measurements(tmp_path, text)
