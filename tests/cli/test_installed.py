"""The installed program, run as a separate process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("tallybook")


def run(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [PROGRAM, *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_results_go_to_stdout_and_errors_to_stderr(tmp_path: Path) -> None:
    """The default ledger is in the current folder, and the exit status shows success or failure."""
    assert run(tmp_path, "meter", "configure", "tokens").returncode == 0
    assert (tmp_path / "tallybook.db").exists()
    completed = run(tmp_path, "total", "tokens", "--json")
    assert (completed.returncode, json.loads(completed.stdout)["value"], completed.stderr) == (0, "0", "")
    rejected = run(tmp_path, "total", "nothing")
    assert (rejected.returncode, rejected.stdout) == (1, "")
    assert rejected.stderr == "tallybook: no_meter: There is no meter 'nothing'; configure it first.\n"
    assert run(tmp_path, "total", "--help").returncode == 0
    assert run(tmp_path, "totale").returncode == 2


def test_piped_output_has_no_colours_and_ascii_output_has_plain_bars(tmp_path: Path) -> None:
    """The output has no escape sequences and no characters outside its encoding."""
    run(tmp_path, "meter", "configure", "tokens")
    run(tmp_path, "record", "tokens", "stripe_customer_id=é", "value=3")
    completed = run(tmp_path, "summaries", "tokens", PYTHONIOENCODING="ascii")
    assert completed.returncode == 0
    assert "#" * 32 in completed.stdout
    assert "\x1b" not in run(tmp_path, "totals", "tokens").stdout
    assert run(tmp_path, "totals", "tokens", PYTHONIOENCODING="ascii").returncode == 0


def test_a_closed_output_pipe_is_not_an_error(tmp_path: Path) -> None:
    """A closed pipe, for example of `head`, causes no traceback."""
    run(tmp_path, "meter", "configure", "tokens")
    process = subprocess.Popen(
        [PROGRAM, "meter", "list"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait()


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_a_missing_extra_is_reported_with_the_install_command(tmp_path: Path, missing: str) -> None:
    """The exit status is 2, without a traceback."""
    (tmp_path / "absent.py").write_text(
        "import sys\n"
        f"sys.modules[{missing!r}] = None\n"
        "from tallybook.application.interfaces.cli import main\n"
        "sys.argv = ['tallybook', 'meter', 'list']\n"
        "main()\n"
    )
    run(tmp_path, "meter", "configure", "tokens", "--display-name", "é")  # Rich must be able to compute its width
    ran = subprocess.run([sys.executable, "absent.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr == "The command line needs an extra: pip install 'tallybook[cli]'\n"


@pytest.mark.parametrize("module", ["tallybook.domain", "typer"])
def test_ctrl_c_during_the_imports_is_no_traceback(tmp_path: Path, module: str) -> None:
    """They take a part of a second, and the exit status is the same as later."""
    (tmp_path / "stopped.py").write_text(
        "import sys\n"
        "class Stopped:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}:\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Stopped())\n"
        "from tallybook.__main__ import main\n"
        "main()\n"
    )
    ran = subprocess.run([sys.executable, "stopped.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (130, "tallybook: interrupted: Interrupted.\n")
