"""The texts stay readable: sentences are counted as by hand, and few of them are long."""

from __future__ import annotations

from pathlib import Path

import pytest
from readability import LONG, figures, messages, sentences

ROOT = Path(__file__).parents[1]
TEXT = """\
# A heading

hwnas finds networks. It needs `a command --with options` and [a link](http://x.y/z) here.

    code is left out, however long it is, and however many words there are in it

| option | meaning of it |
|---|---|
| `--x` | the number of networks to measure |

- the first item of a list
- the second one. It has two sentences
"""


def test_sentences_are_counted_as_by_hand() -> None:
    """Headings, names and fragments of less than four words are no sentences."""
    assert [len(words) for words in sentences(TEXT)] == [7, 6, 6, 4]


DOCUMENTS = ("README.md", *(f"docs/{file.name}" for file in sorted((ROOT / "docs").glob("*.md"))))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_few_sentences_of_a_document_are_long(document: str) -> None:
    count, words, share = figures((ROOT / document).read_text(encoding="utf-8"))
    assert count == 0 or words < 18
    assert share < 0.2, f"{100 * share:.0f} % of {count} sentences have more than {LONG} words"


def test_messages_are_drawn_with_what_is_filled_in_as_braces() -> None:
    known = messages(ROOT)
    assert len(known) > 300
    assert "the package '{}' is not installed. Install it: {}" in known
