"""How easy the texts are to read: words per sentence of README, docs, help and messages, now and before.

    python tests/readability.py                       the texts of this checkout
    python tests/readability.py --before 28bfeab      beside those of an earlier commit
    python tests/readability.py --messages 40 --seed 1    error messages, drawn at random

A sentence ends at `.`, `!` or `?`; a table's cell, a list's item and a heading end one, too. Code blocks
are left out, and what stands between backticks counts as one word.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LONG = 25
"""A sentence of more words is long."""
FEWEST = 4
"""Fragments of fewer words (names, numbers, headings) are not counted as sentences."""


def sentences(text: str) -> Iterator[list[str]]:
    """The words of each sentence of a Markdown text."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"!\[[^]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    for block in re.split(r"\n\s*\n", text):
        lines = [line for line in block.splitlines() if not line.startswith(("    ", "\t"))]
        for part in re.split(r"\n(?=\s*(?:[-*|#]|\d+\.)\s?)|\s\|\s|^\||\|$", "\n".join(lines), flags=re.M):
            part = re.sub(r"`[^`]*`", "code", part)
            part = re.sub(r"^\s*(?:[-*#>]+|\d+\.)\s+", "", part)
            for sentence in re.split(r"(?<=[.!?])[*_\"')]*\s+(?=[A-Z(\"'*_]|code)", part):
                words = re.findall(r"[^\W_][\w'.,%/+-]*", sentence)
                if len(words) >= FEWEST:
                    yield words


def figures(text: str) -> tuple[int, float, float]:
    """Number of sentences, words per sentence, share of sentences with more than `LONG` words."""
    lengths = [len(words) for words in sentences(text)]
    if not lengths:
        return 0, 0.0, 0.0
    return len(lengths), sum(lengths) / len(lengths), sum(length > LONG for length in lengths) / len(lengths)


def help_texts(root: Path) -> str:
    """The prose of the help of every verb of a checkout: option lines become list items."""
    program = (
        "import io, contextlib, json, sys\n"
        "from hwnas.cli.app import VERBS, main\n"
        "def text(*words):\n"
        "    out = io.StringIO()\n"
        "    with contextlib.redirect_stdout(out):\n"
        "        main([*words, '--help'])\n"
        "    return out.getvalue()\n"
        "texts = {}\n"
        "for verb in VERBS:\n"
        "    texts[verb] = text(verb)\n"
        "    group = texts[verb].partition('Commands:')[2]\n"
        "    for line in group.splitlines():\n"
        "        if line.startswith('  ') and line[2:3].strip():\n"
        "            texts[verb + ' ' + line.split()[0]] = text(verb, line.split()[0])\n"
        "sys.stdout.write(json.dumps(texts))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(root), "COLUMNS": "100", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=root, capture_output=True, text=True, check=True
    )
    return "\n\n".join(_prose_of_help(text) for text in json.loads(done.stdout).values())


def _prose_of_help(text: str) -> str:
    """A help page as Markdown: without usage line and examples, an item for each option."""
    lines, skipped = [], False
    for line in text.splitlines():
        if line and not line.startswith(" "):
            skipped = line.startswith(("Usage", "Examples"))
            lines.append("")
            continue
        if skipped or line.strip().startswith("Examples"):
            skipped = True
            continue
        item = re.match(r"  (?:--?[A-Za-z]|[A-Z\[])\S*.*?(?:\s{2,}(.*))?$", line)
        lines.append(f"\n- {item[1] or ''}" if item else line.strip())
    return "\n".join(lines)


def messages(root: Path) -> list[str]:
    """Every message of a `raise` in the package, with what is filled in as {}."""
    found = []
    for file in sorted((root / "hwnas").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                text = _text(node.exc.args[0])
                if len(text.split()) >= FEWEST:
                    found.append(text)
    return found


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value) if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join("{}" if isinstance(one, ast.FormattedValue) else _text(one) for one in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.IfExp):
        return _text(node.body)
    return "{}" if isinstance(node, ast.Name | ast.Attribute | ast.Call) else ""


def texts(root: Path) -> dict[str, str]:
    """The texts of a checkout by name."""
    docs = sorted((root / "docs").glob("*.md"))
    found = {"README.md": (root / "README.md").read_text(encoding="utf-8")}
    found |= {f"docs/{file.name}": file.read_text(encoding="utf-8") for file in docs}
    found["all docs"] = "\n\n".join(file.read_text(encoding="utf-8") for file in docs)
    found["--help of every verb"] = help_texts(root)
    found["error messages"] = "\n\n".join(messages(root))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the figures, and messages drawn at random."""
    parser = argparse.ArgumentParser(description="Words per sentence of the project's texts.")
    parser.add_argument("--before", metavar="COMMIT", help="An earlier commit to compare with.")
    parser.add_argument("--messages", type=int, default=0, metavar="N", help="Print N error messages.")
    parser.add_argument("--seed", type=int, default=0, help="Decides which messages (0).")
    options = parser.parse_args(arguments)
    if options.messages:
        known = messages(ROOT)
        for text in random.Random(options.seed).sample(known, min(options.messages, len(known))):
            print(f"- {text}")
        return
    now, before = texts(ROOT), {}
    if options.before:
        with tempfile.TemporaryDirectory() as folder:
            archive = subprocess.run(
                ["git", "archive", options.before, "hwnas", "docs", "README.md", "latency_tables"],
                cwd=ROOT, capture_output=True, check=True,
            )  # fmt: skip
            subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
            before = texts(Path(folder))
    print(f"{'text':28} {'sentences':>10} {'words each':>11} {f'over {LONG}':>8}", end="")
    print(f"   before {options.before}" if before else "")
    for name in dict.fromkeys((*now, *before)):
        line = f"{name:28}"
        for one in (now, before) if before else (now,):
            count, words, share = figures(one.get(name, ""))
            line += f" {count:10d} {words:11.1f} {100 * share:6.1f} %" if count else f" {'-':>31}"
        print(line)


if __name__ == "__main__":
    main()
