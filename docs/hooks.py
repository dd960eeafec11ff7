"""For mkdocs: writes the page `help.md`, the help of every verb as the program prints it."""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any

from mkdocs.structure.files import File

from hwnas.cli.app import VERBS, _command, main


def on_files(files: Any, config: Any) -> Any:
    """Adds the generated page."""
    files.append(File.generated(config, "help.md", content=help_page()))
    return files


def help_page() -> str:
    """A section for each verb and each command of a group."""
    os.environ["COLUMNS"] = "90"
    sections = ["# Help of every verb\n"]
    for verb in VERBS:
        command = _command(verb).commands[verb]
        for words in [(verb,), *((verb, name) for name in getattr(command, "commands", {}))]:
            text = io.StringIO()
            with contextlib.redirect_stdout(text):
                main([*words, "--help"])
            indented = "".join(f"    {line}".rstrip() + "\n" for line in text.getvalue().splitlines())
            sections.append(f"## hwnas {' '.join(words)}\n\n{indented}")
    return "\n".join(sections)
