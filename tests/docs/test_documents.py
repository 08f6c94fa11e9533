"""Every snippet of the documents does what it says."""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.documents import (
    DOCUMENTS,
    ON_POSTGRES,
    ROOT,
    SERVE,
    STORAGE,
    WEB_APPLICATIONS,
    WEBHOOKS,
    blocks,
    name,
    steps,
)
from tests.postgres import programs

RUN = {"python", "console"}
RUN_HERE = [one for one in DOCUMENTS if one not in (WEB_APPLICATIONS, WEBHOOKS, SERVE)]
"""Web applications and servers are files, and commands that don't end: they have tests of their own."""


@pytest.fixture(autouse=True)
def server(request: pytest.FixtureRequest) -> None:
    """Some documents need a PostgreSQL server."""
    if getattr(request.node, "callspec", None) and request.node.callspec.params["document"] in (ON_POSTGRES, STORAGE):
        request.getfixturevalue("billing")


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_snippet_is_run(document: Path) -> None:
    """There is no fenced block that no test runs; the README's install commands are run by .ci/run."""
    for block in blocks(document):
        in_ci = document == ROOT / "README.md" and block.language == "sh" and ".venv/bin/pip install -e" in block.text
        in_roles = document == ON_POSTGRES and block.language == "sql"  # which test_roles.py runs
        in_serving = document == SERVE and block.language == "javascript"
        assert block.language in RUN or in_ci or in_roles or in_serving, (
            f"{name(document)}:{block.line}: a block of {block.language or 'nothing'}"
        )


@pytest.mark.parametrize("document", [one for one in RUN_HERE if "```python" in one.read_text()], ids=name)
def test_python_runs(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python of a document runs from top to bottom, its assertions included."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(document):
        if block.language == "python":
            source = "\n" * (block.line - 1) + block.text
            exec(compile(source, str(document), "exec"), names)


@pytest.mark.parametrize("document", [one for one in RUN_HERE if "```console" in one.read_text()], ids=name)
def test_commands_print_what_is_shown(document: Path, tmp_path: Path) -> None:
    """The commands of a document print what it shows; `...` stands for what differs from run to run."""
    folders = (str(Path(sys.executable).parent), str(programs()), os.environ["PATH"])
    environment = {**os.environ, "PATH": os.pathsep.join(folders), "COLUMNS": "100"}
    for block in blocks(document):
        for step in steps(block) if block.language == "console" else ():
            if exported := re.fullmatch(r"export (\w+)=(\S+)", step.command):
                environment[exported[1]] = exported[2]
            ran = subprocess.run(
                ["bash", "-c", step.command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            matches = doctest.OutputChecker().check_output(step.printed, ran.stdout + ran.stderr, flags)
            assert matches, f"{name(document)}:{block.line}: {step.command}\n{ran.stdout}{ran.stderr}"
