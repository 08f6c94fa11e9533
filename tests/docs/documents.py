"""Reads the fenced blocks of the project's documents."""

import doctest
import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
README = ROOT / "README.md"
STORAGE = ROOT / "docs" / "storage.md"
ON_POSTGRES = ROOT / "docs" / "guides" / "postgresql.md"
WEBHOOKS = ROOT / "docs" / "guides" / "webhooks.md"
WEB_APPLICATIONS = ROOT / "docs" / "guides" / "web-applications.md"
OUTBOX = ROOT / "docs" / "guides" / "record-in-your-transaction.md"
OTHER_BROKERS = ROOT / "docs" / "guides" / "usage-from-other-brokers.md"
TOPICS = ROOT / "docs" / "guides" / "usage-from-topics.md"
SERVE = ROOT / "docs" / "guides" / "serve.md"
_FILE = re.compile(r"(#|//) (?P<path>[\w/]+\.(py|mjs))(, at its end)?\n")
_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language, its text, and the line on which the text starts."""

    language: str
    text: str
    line: int


class Step(NamedTuple):
    """A command in a console block, and its expected output."""

    command: str
    printed: str


def blocks(document: Path) -> list[Block]:
    """Return the fenced blocks of a document, in order."""
    text = document.read_text()
    return [
        Block(match["language"], match["text"], text.count("\n", 0, match.start()) + 2)
        for match in _FENCE.finditer(text)
    ]


def steps(block: Block) -> Iterator[Step]:
    """Yield the commands of a console block, each from its `$ ` to the next; lines after `> ` continue a command."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        lines = re.sub(r"\\\n\s*", "", part).splitlines()
        continuation = list(takewhile(lambda line: line.startswith(">"), lines[1:]))
        command = [lines[0], *(line[2:] for line in continuation)]
        yield Step("\n".join(command), "".join(f"{line}\n" for line in lines[len(command) :]))


def section(document: Path, heading: str) -> list[Block]:
    """Return the fenced blocks under a heading of the second level; those before the first one if it is empty."""
    lines = document.read_text().splitlines()
    start = lines.index(f"## {heading}") if heading else 0
    end = next((number for number, line in enumerate(lines) if number > start and line.startswith("## ")), len(lines))
    return [block for block in blocks(document) if start < block.line <= end]


def files(blocks: list[Block]) -> dict[str, str]:
    """Return the Python and JavaScript blocks that start with a file name, by that name."""
    headers = [(_FILE.match(block.text), block.text) for block in blocks if block.language in {"python", "javascript"}]
    return {match["path"]: text for match, text in headers if match is not None}


def is_expected(printed: str, output: str) -> bool:
    """Return whether an output matches the documented one; `...` matches what differs from run to run."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(printed, output, flags)


def name(document: Path) -> str:
    """Return a document's name for the id of a test."""
    return str(document.relative_to(ROOT))
