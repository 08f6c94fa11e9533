"""Every snippet of the documents does what it says."""

import doctest
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.documents import DOCUMENTS, ROOT, blocks, name, steps

RUN = {"python", "console"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_snippet_is_run(document: Path) -> None:
    """There is no fenced block that no test runs; the README's install commands are run by .ci/run."""
    for block in blocks(document):
        in_ci = document == ROOT / "README.md" and block.language == "sh" and ".venv/bin/pip install -e" in block.text
        assert block.language in RUN or in_ci, (
            f"{name(document)}:{block.line}: a block of {block.language or 'nothing'}"
        )


@pytest.mark.parametrize("document", [one for one in DOCUMENTS if "```python" in one.read_text()], ids=name)
def test_python_runs(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python of a document runs from top to bottom, its assertions included."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(document):
        if block.language == "python":
            source = "\n" * (block.line - 1) + block.text
            exec(compile(source, str(document), "exec"), names)


@pytest.mark.parametrize("document", [one for one in DOCUMENTS if "```console" in one.read_text()], ids=name)
def test_commands_print_what_is_shown(document: Path, tmp_path: Path) -> None:
    """The commands of a document print what it shows; `...` stands for what differs from run to run."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "100",
    }
    for block in blocks(document):
        for step in steps(block) if block.language == "console" else ():
            ran = subprocess.run(
                ["bash", "-c", step.command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            matches = doctest.OutputChecker().check_output(step.printed, ran.stdout + ran.stderr, flags)
            assert matches, f"{name(document)}:{block.line}: {step.command}\n{ran.stdout}{ran.stderr}"
