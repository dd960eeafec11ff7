"""README and docs/cli.md name verbs and options that exist, and docs/cli.md names them all."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hwnas.cli.app import VERBS, _command, main
from hwnas.cli.help import EXAMPLES, THEMES
from hwnas.predictors.latency import read_summary

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    "README.md",
    "AGENTS.md",
    "CONTRIBUTING.md",
    *(f"docs/{file.name}" for file in sorted((ROOT / "docs").glob("*.md"))),
)


def command_lines(document: str) -> Iterator[list[str]]:
    """The words after `hwnas` in each command of a document's code, up to a comment or a pipe."""
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    spans = re.findall(r"`([^`\n]+)`", text)
    for code in blocks + spans:
        for part in code.split(" && "):
            words = shlex.split(part, comments=True) if part.count("'") % 2 == 0 else []
            names = [word.rpartition("/")[2] for word in words]
            if "hwnas" in names and "pip" not in names and "import" not in words and "from" not in words:
                yield words[names.index("hwnas") + 1 :]


def spellings(command: Any) -> set[str]:
    return {spelling for parameter in command.params for spelling in parameter.opts if spelling[0] == "-"}


def every_command(verb: str) -> Iterator[tuple[str, Any]]:
    """The verb's command, or those of its group, by name."""
    command = _command(verb).commands[verb]
    subcommands = getattr(command, "commands", {})
    yield from subcommands.items() if subcommands else [(verb, command)]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_of_a_document_exists_with_its_options(document: str) -> None:
    lines = list(command_lines(document))
    for words in lines:
        verb = next((word for word in words if word in VERBS), None)
        first = next((word for word in words if word[0] not in "-" and not word.endswith(".yaml")), None)
        if first is None or first.startswith("<"):
            continue
        assert verb == first, f"{document}: no verb '{first}' in: hwnas {' '.join(words)}"
        commands = dict(every_command(verb))
        known = {"--config", "--help", "--version"} | set().union(*map(spellings, commands.values()))
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert used <= known, f"{document}: {verb} has no {', '.join(sorted(used - known))}"
    assert lines or document not in ("README.md", "docs/cli.md", "docs/index.md")


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_ends_with_two_commands_that_exist(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, "--help"]) == 0
    *_, title, first, second = capsys.readouterr().out.rstrip().splitlines()
    assert title.strip() == "Examples:"
    assert (first.strip(), second.strip()) == EXAMPLES[verb]
    for line in EXAMPLES[verb]:
        for part in line.split(" && "):
            words = shlex.split(part)
            assert words[:2] == ["hwnas", verb]
            commands = dict(every_command(verb))
            command = commands[words[2]] if len(commands) > 1 else commands[verb]
            used = {word for word in words if word.startswith("--")}
            assert used <= spellings(command), f"{part}: no {', '.join(used - spellings(command))}"


def test_every_verb_is_in_one_theme_of_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(verb for verbs in THEMES.values() for verb in verbs) == sorted(VERBS)
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"{theme}:" in out for theme in THEMES) and "--install-completion" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("verb", VERBS)
def test_the_manual_names_every_option_of_a_verb(verb: str) -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    section = re.search(rf"^## hwnas {verb}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"docs/cli.md has no section 'hwnas {verb}'"
    for name, command in every_command(verb):
        missing = {option for option in spellings(command) if not re.search(rf"{option}\b", section.group())}
        missing = {option for option in missing if option.startswith("--")}
        assert not missing, f"docs/cli.md does not name {', '.join(sorted(missing))} of {name}"


def test_the_readme_has_a_command_for_the_main_job_and_one_for_the_tests() -> None:
    commands = [
        line.strip() for line in (ROOT / "README.md").read_text().splitlines() if "venv .venv" in line
    ]
    main_job, tests = commands
    assert main_job.endswith(".venv/bin/hwnas search --device rpi4 --budget 20ms")
    assert tests.endswith(".venv/bin/python -m pytest -q")


def test_the_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^    import hwnas\n.*?(?=^#|^\S)", text, re.MULTILINE | re.DOTALL)
    assert found
    code = textwrap.dedent(found.group())
    assert "trials=2000" in code
    exec(compile(code.replace("trials=2000", "trials=50"), "README.md", "exec"), {})
    assert "stages:" in capsys.readouterr().out


def test_the_readme_names_every_table_that_ships_and_where_it_is_from() -> None:
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `")]
    for file in sorted((ROOT / "latency_tables").glob("*.yaml")):
        provenance = read_summary(file).provenance
        named = [row for row in rows if f"`{file.stem}`" in row]
        assert len(named) == 1, f"README.md has no row for {file.stem}"
        assert f"**{provenance}**" in named[0], f"README.md: {file.stem} is {provenance}"


def test_the_project_names_no_machine_of_its_makers() -> None:
    private = re.compile(r"/(?:work|root|home)/\w|\.\./shared")
    files = [
        path
        for pattern in ("*.md", "docs/*.md", "hwnas/**/*.py", "pyproject.toml")
        for path in ROOT.glob(pattern)
    ]
    named = [
        str(file.relative_to(ROOT)) for file in files if private.search(file.read_text(encoding="utf-8"))
    ]
    assert not named
