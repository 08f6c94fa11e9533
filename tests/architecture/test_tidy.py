"""Identifiers are standard terms, and the glossary names code that exists."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .tree import PACKAGES, ROOT

BANNED_WORDS = {
    "anew": "rebuild, recompute or re-parse",
    "apart": "worker process, or independent",
    "asked": "query, request or caller",
    "begun": "started or created",
    "beside": "attachment, or in the same transaction",
    "courier": "EndpointWorker",
    "damaged": "corrupted",
    "desk": "ServedLedger",
    "desks": "LedgerRegistry",
    "elsewhere": "worker process, or parallel",
    "figures": "totals, or the name of the formatted text",
    "house": "cleanup or retention",
    "keeper": "KeyValueStore",
    "kept": "stored, or key-value entry",
    "nobody": "no caller, no client or no process",
    "overwritten": "superseded",
    "reception": "request body",
    "refusal": "error",
    "refusals": "errors",
    "refused": "rejected",
    "seal": "signed checkpoint",
    "sealed": "checkpointed",
    "sealer": "CheckpointService",
    "seals": "signed checkpoints",
    "told": "reported, returned or decoded",
    "whoever": "the caller, the client or the process",
}
"""Words that identifiers must not contain, with the terms to use."""
FOLDERS = (*PACKAGES, "tests", "benchmarks")
BENCHMARK_TERM = ("benchmarks/", "figures")
"""A benchmark measures figures: the only folder where the word is a term."""


def identifiers(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and name of each identifier that `source` defines: modules, classes, functions, variables."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.alias(asname=str(name)) | ast.ExceptHandler(name=str(name)):
                yield node.lineno, name
            case _:
                pass


def words(identifier: str) -> list[str]:
    """Split an identifier in snake_case, CamelCase or UPPER_CASE into lower-case words."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", identifier)]


def banned_words(file: str, source: str) -> list[str]:
    """Return a message for each identifier with a banned word, the file name included."""
    names = [(1, part.removesuffix(".py")) for part in Path(file).parts]
    return [
        f"{file}:{line}: {name!r} contains {word!r}: use {BANNED_WORDS[word]}"
        for line, name in (*names, *identifiers(source))
        for word in words(name)
        if word in BANNED_WORDS and not (file.startswith(BENCHMARK_TERM[0]) and word == BENCHMARK_TERM[1])
    ] + [
        f"{file}:{line}: {name!r} starts with 'most': use 'max'"
        for line, name in identifiers(source)
        if words(name)[:1] == ["most"]
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_identifiers_contain_no_banned_words(folder: str) -> None:
    """Each failure shows the term to use instead."""
    messages = [
        message
        for file in sorted((ROOT / folder).rglob("*.py"))
        for message in banned_words(str(file.relative_to(ROOT)), file.read_text())
    ]
    if messages:
        pytest.fail("\n".join(messages), pytrace=False)


@pytest.mark.parametrize(
    "source",
    [
        "class Keeper: pass",
        "def let_go_beside(): pass",
        "MOST_BODY_BYTES = 1",
        "def f(told): pass",
        "for kept in []: pass",
        "self.is_damaged = True",
        "import a as refused",
        "try: pass\nexcept OSError as refusal: pass",
    ],
)
def test_a_banned_word_is_found(source: str) -> None:
    """The check covers each kind of identifier."""
    assert len(banned_words("domain/a.py", source)) == 1


def test_a_banned_word_in_a_file_name_is_found() -> None:
    """The check covers the names of folders and files."""
    assert len(banned_words("application/seals/elsewhere.py", "")) == 2


@pytest.mark.parametrize("source", ["almost = at_most = 1", "def keep(): return told", "class Household: pass"])
def test_only_whole_words_of_definitions_are_banned(source: str) -> None:
    """Names that only contain the letters, and names that other code defines, pass."""
    assert banned_words("domain/a.py", source) == []


def missing_references(glossary: str) -> list[str]:
    """Return the paths in a glossary that don't exist, and the names that are missing in the file named after them."""
    missing: list[str] = []
    for line in glossary.splitlines():
        paths = re.findall(r"`([a-z_]+/[\w/.-]*)`", line)
        missing += [path for path in paths if not (ROOT / path).exists()]
        for names, path in re.findall(r"((?:`[\w.]+`, )*`[\w.]+`) in `([\w/]+\.py)`", line):
            source = (ROOT / path).read_text() if (ROOT / path).exists() else ""
            missing += [name for name in re.findall(r"[\w.]+", names) if name.rpartition(".")[2] not in source]
    return missing


def test_the_glossary_refers_to_code_that_exists() -> None:
    """Each path exists, and each file contains the names that the glossary places in it."""
    assert missing_references((ROOT / "docs" / "glossary.md").read_text()) == []


def test_a_missing_reference_is_found() -> None:
    """The check covers paths, and names in files."""
    glossary = "| a | b | `Keeper`, `Meter.event_name` in `domain/meter.py`; `domain/keeper.py`; `projections/` |"
    assert sorted(missing_references(glossary)) == ["Keeper", "domain/keeper.py"]
