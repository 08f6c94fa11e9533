"""Every snippet of the documents is run, and its output is the documented one.

With TALLYBOOK_TEST_RENEW=1 the tests write the present output of commands into the documents, and fail once. Read the
difference before you commit it: what differs from run to run has to be replaced by `...` by hand.
"""

import os
from pathlib import Path

import pytest

from tests.docs.documents import (
    DOCUMENTS,
    ON_POSTGRES,
    OTHER_BROKERS,
    OUTBOX,
    README,
    ROOT,
    SERVE,
    STORAGE,
    TOPICS,
    WEB_APPLICATIONS,
    WEBHOOKS,
    Block,
    blocks,
    files,
    is_expected,
    name,
    steps,
)
from tests.docs.shell import Shell, renew
from tests.topics.broker import running_broker

TESTED_LANGUAGES = {"python", "console"}
GUIDES = [
    README,
    *(
        ROOT / "docs" / "guides" / f"{guide}.md"
        for guide in (
            "correct-a-wrong-report",
            "import-files",
            "take-back-a-wrong-import",
            "usage-from-object-stores",
            "close-a-month",
            "from-usage-to-an-invoice",
            "why-was-i-charged-this",
            "change-a-rule",
            "change-rules-on-a-date",
            "usage-by-dimension",
            "derived-meters",
            "the-console",
            "who-did-what",
            "require-approval",
            "prove-nothing-was-rewritten",
            "hand-over-evidence",
            "for-auditors",
            "back-up-and-restore",
            "read-the-archive",
            "the-rules-as-sql",
            "postgresql",
            "jobs",
        )
    ),
]
"""The documents whose commands are run in one shell, in the order of the README."""
WITH_OWN_TESTS = (WEB_APPLICATIONS, WEBHOOKS, SERVE, OUTBOX, TOPICS, OTHER_BROKERS)
"""Applications and servers consist of files, and of commands that do not end."""


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_snippet_is_tested(document: Path) -> None:
    """No fenced block is untested. The README's install commands are run by .ci/run."""
    for block in blocks(document):
        in_ci = document == README and block.language == "sh" and ".venv/bin/pip install -e" in block.text
        in_roles = document == ON_POSTGRES and block.language == "sql"  # run by test_roles.py
        in_serving = document == SERVE and block.language == "javascript"
        assert block.language in TESTED_LANGUAGES or in_ci or in_roles or in_serving, (
            f"{name(document)}:{block.line}: a block of {block.language or 'no language'}"
        )


def test_every_document_with_commands_is_run() -> None:
    """A document with console blocks is a guide, storage.md, or has a test of its own."""
    with_commands = {document for document in DOCUMENTS if "```console" in document.read_text()}
    assert with_commands <= {*GUIDES, STORAGE, *WITH_OWN_TESTS}


def test_the_readme_lists_the_guides_in_the_tested_order() -> None:
    """A reader follows the guides in the order in which the test does."""
    text = README.read_text()
    positions = [text.index(f"](docs/guides/{guide.name})", text.index("## Guides")) for guide in GUIDES[1:]]
    assert positions == sorted(positions)


@pytest.mark.parametrize(
    "document",
    [document for document in DOCUMENTS if document not in WITH_OWN_TESTS and "```python" in document.read_text()],
    ids=name,
)
def test_python_snippets_run(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """The Python of a document runs from top to bottom, including its assertions."""
    if document == ON_POSTGRES:
        request.getfixturevalue("billing")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(document):
        if block.language == "python":
            source = "\n" * (block.line - 1) + block.text
            exec(compile(source, str(document), "exec"), names)


@pytest.mark.usefixtures("billing")
def test_the_readme_and_the_guides_work_in_one_shell(tmp_path: Path) -> None:
    """A reader can follow the README and the guides in order, in one shell, without a conflict of names."""
    follow(GUIDES, tmp_path)


@pytest.mark.usefixtures("billing")
def test_the_commands_of_the_storage_page_work(tmp_path: Path) -> None:
    """The commands read the tables of a ledger in PostgreSQL."""
    follow([STORAGE], tmp_path)


def test_the_commands_of_the_outbox_page_work(tmp_path: Path) -> None:
    """A reader saves the files, runs the program and relays what it stored."""
    follow([OUTBOX], tmp_path)


def test_the_commands_of_the_topics_page_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader publishes messages and consumes them."""
    with running_broker() as broker:
        broker.create("usage")
        monkeypatch.setenv("TALLYBOOK_BROKERS", broker.address)
        follow([TOPICS], tmp_path)


def follow(documents: list[Path], folder: Path) -> None:
    """Save the files of documents, run the commands and compare their output, or renew it."""
    follow_blocks([(document, blocks(document)) for document in documents], folder)


def follow_blocks(documents: list[tuple[Path, list[Block]]], folder: Path) -> None:
    """Like `follow`, with some blocks of each document."""
    problems: list[str] = []
    with Shell(folder) as shell:
        for document, parts in documents:
            for block in parts:
                for path, text in files([block]).items():
                    file = Path(shell.run("pwd").strip()) / path
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(text)
                for step in steps(block) if block.language == "console" else ():
                    output = shell.run(step.command)
                    if not is_expected(step.printed, output):
                        problems.append(f"{name(document)}:{block.line}: {step.command}\n{output}")
                        if os.environ.get("TALLYBOOK_TEST_RENEW"):
                            renew(document, step, output)
    assert not problems, "\n".join(problems)
