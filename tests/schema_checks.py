"""Validates what hwnas prints with --json, and the files of a run, against the schemas that ship."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import typer

from hwnas import schemas
from hwnas.io import yaml as yaml_io

SEEN: set[str] = set()
"""The schemas of which a real document was validated in this process."""


class CheckedJson:
    """Stands for the module `json` in `hwnas.cli.common`: validates each document that is printed."""

    @staticmethod
    def dumps(document: Any, **options: Any) -> str:
        if name := "error" if "error" in document else running_command():
            check(name, document)
        return json.dumps(document, **options)


def running_command() -> str:
    """`table-check` while `hwnas table check` runs, empty while no command does."""
    context = typer.main.get_current_context(silent=True)  # type: ignore[attr-defined]
    return "-".join(context.command_path.split()[1:]) if context else ""


def check(name: str, document: Any) -> None:
    """Raises jsonschema.ValidationError where the document says more or less than the schema."""
    validator(name).validate(json.loads(json.dumps(document)))
    SEEN.add(name)


def check_file(file: Path) -> None:
    """The same for a file of a run directory."""
    name = schemas.FILES[file.name]
    if file.suffix == ".jsonl":
        first, *lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
        check("log", first)
        for line in lines:
            check(name, line)
    else:
        text = file.read_text(encoding="utf-8")
        check(name, yaml_io.parse(text, source=str(file)))


@lru_cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    """Stricter than the schema: a field that it does not describe is refused."""
    return jsonschema.Draft202012Validator(closed(schemas.load(name)))


def closed(part: Any) -> Any:
    """The schema with no field allowed beyond those described, wherever it lists fields."""
    if isinstance(part, list):
        return [closed(one) for one in part]
    if not isinstance(part, dict):
        return part
    found = {key: closed(value) for key, value in part.items()}
    if isinstance(part.get("properties"), dict) and ("type" in part or "$ref" in part):
        found.setdefault("unevaluatedProperties", False)
    return found
