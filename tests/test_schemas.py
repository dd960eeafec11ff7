"""Every `--json` document and every file of a run has a schema, and is what the schema says.

`conftest.py` validates whatever any test makes a verb print. Here: that no verb is without a schema, that
errors are documents, and the verbs that are quick.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from schema_checks import check, check_file
from search_fakes import by_size, small_space
from search_fakes import table as toy_table

from hwnas import schemas
from hwnas.cli.app import VERBS, _command
from hwnas.errors import UsageError
from hwnas.plugins import PACKAGE
from hwnas.search import search

Hwnas = Callable[..., Any]
DEFAULT_SPACE = PACKAGE / "space" / "spaces" / "default.yaml"


def commands_with_json() -> Iterator[tuple[str, ...]]:
    """The words of every command that has --json."""
    for verb in VERBS:
        command = _command(verb).commands[verb]
        subcommands = getattr(command, "commands", {})
        for name, one in subcommands.items() if subcommands else [("", command)]:
            if any("--json" in parameter.opts for parameter in one.params):
                yield (verb, name) if name else (verb,)


COMMANDS = list(commands_with_json())


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_verb_with_json_has_a_schema(words: tuple[str, ...]) -> None:
    assert "-".join(words) in schemas.names(), f"write hwnas/schemas/{'-'.join(words)}.json"


@pytest.mark.parametrize("name", schemas.names())
def test_a_schema_is_valid_and_of_something(name: str) -> None:
    schema = schemas.load(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["title"]
    assert name in {"error", "log", *schemas.FILES.values(), *("-".join(words) for words in COMMANDS)}
    jsonschema.Draft202012Validator(schema).is_valid({})  # no reference leads nowhere


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_error_with_json_is_a_document(words: tuple[str, ...], hwnas: Hwnas) -> None:
    answer = hwnas(*words, "--no-such-option", "--json")
    document = json.loads(answer.out)
    assert answer.code == document["error"]["exit_code"] == 2
    assert answer.err == f"error: {document['error']['message']}\n"
    check("error", document)


def test_an_error_of_a_library_says_its_kind(hwnas: Hwnas) -> None:
    answer = hwnas("search", "--device", "rpi4", "--budget", "1ms", "--json")
    assert answer.code == 3 and json.loads(answer.out)["error"]["type"] == "InfeasibleError"


def test_without_json_an_error_leaves_stdout_empty(hwnas: Hwnas) -> None:
    assert hwnas("describe", "nothing").out == ""
    assert hwnas("describe", "--", "--json").out == ""


@pytest.mark.parametrize(
    "words",
    [
        "models",
        "devices",
        "describe uniform-t",
        "describe uniform-t --device rpi4",
        "gallery",
        "space describe",
        "space describe --device rpi4",
        f"space check {DEFAULT_SPACE}",
        "table check rpi4",
        "table check cpu-x86",
        "table show rpi4",
        "table show cpu-x86 --kind reuse",
    ],
)
def test_what_a_quick_verb_prints_is_what_its_schema_says(words: str, hwnas: Hwnas) -> None:
    answer = hwnas(*words.split(), "--json")  # validated by conftest.py
    assert answer.code == 0, answer.err
    assert "schema" in json.loads(answer.out)


def test_the_files_of_a_run_are_what_their_schemas_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hwnas: Hwnas
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, trials in (("0", "40"), ("1", "")):
        words = ["--trials", trials] if trials else []
        answer = hwnas(
            "search",
            "--device",
            "rpi4",
            "--budget",
            "12ms",
            "--seed",
            seed,
            "--out",
            f"run{seed}",
            "--json",
            *words,
        )
        assert answer.code == 0, answer.err
        files = [file for file in Path(f"run{seed}").iterdir() if file.name in schemas.FILES]
        assert {"run.yaml", "candidates.jsonl", "front.json"} <= {file.name for file in files}
        assert ("progress.jsonl" in {file.name for file in files}) == (not trials)
        for file in files:
            check_file(file)
        assert json.loads((Path(f"run{seed}") / "front.json").read_text()) == json.loads(answer.out)
    assert hwnas("compare", "run0", "run1", "--json").code == 0


def test_a_field_has_one_form_in_candidates_and_front(tmp_path: Path) -> None:
    search(
        small_space(), device=toy_table(), budget_ms=0.9, accuracy=by_size, trials=30, out=tmp_path,
        objectives=["params"],
    )  # fmt: skip
    front = json.loads((tmp_path / "front.json").read_text())["front"]
    lines = [json.loads(line) for line in (tmp_path / "candidates.jsonl").read_text().splitlines()[1:]]
    by_id = {line["id"]: line for line in lines}
    assert front
    for network in front:
        line = by_id[network["id"]]
        shared = set(line) & set(network)
        assert {"vector", "latency_ms", "latency_low_ms", "accuracy", "accuracy_std", "params"} <= shared
        assert all(line[name] == network[name] for name in shared)


def test_an_unknown_schema_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="no schema 'serch'. Did you mean 'search'"):
        schemas.load("serch")
