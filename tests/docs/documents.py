"""Reading the fenced blocks of the project's documents."""

import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
STORAGE = ROOT / "docs" / "storage.md"
ON_POSTGRES = ROOT / "docs" / "guides" / "postgresql.md"
WEBHOOKS = ROOT / "docs" / "guides" / "webhooks.md"
WEB_APPLICATIONS = ROOT / "docs" / "guides" / "web-applications.md"
SERVE = ROOT / "docs" / "guides" / "serve.md"
_FILE = re.compile(r"(#|//) (?P<path>[\w/]+\.(py|mjs))(, at its end)?\n")
_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language, its text, and the line that the text begins at."""

    language: str
    text: str
    line: int


class Step(NamedTuple):
    """A command in a console block, and what it prints."""

    command: str
    printed: str


def blocks(document: Path) -> list[Block]:
    """The fenced blocks of a document, in order."""
    text = document.read_text()
    return [
        Block(found["language"], found["text"], text.count("\n", 0, found.start()) + 2)
        for found in _FENCE.finditer(text)
    ]


def steps(block: Block) -> Iterator[Step]:
    """The commands of a console block, each from its `$ ` to the next; lines after `> ` go on with one."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        lines = re.sub(r"\\\n\s*", "", part).splitlines()
        going_on = list(takewhile(lambda line: line.startswith(">"), lines[1:]))
        command = [lines[0], *(line[2:] for line in going_on)]
        yield Step("\n".join(command), "".join(f"{line}\n" for line in lines[len(command) :]))


def section(document: Path, heading: str) -> list[Block]:
    """The fenced blocks under a heading of the second level."""
    lines = document.read_text().splitlines()
    begins = lines.index(f"## {heading}")
    ends = next((at for at, line in enumerate(lines) if at > begins and line.startswith("## ")), len(lines))
    return [block for block in blocks(document) if begins < block.line <= ends]


def files(found: list[Block]) -> dict[str, str]:
    """The Python and JavaScript blocks that begin with a file's name, by that name."""
    named = [(_FILE.match(block.text), block.text) for block in found if block.language in {"python", "javascript"}]
    return {begun["path"]: text for begun, text in named if begun is not None}


def name(document: Path) -> str:
    """A document's name in a test's id."""
    return str(document.relative_to(ROOT))
