"""docs/guides/serve.md, step by step: its commands, its two programs, and a server between them."""

import doctest
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from tests.docs.documents import SERVE, Step, blocks, files, steps

PATIENCE_SECONDS = 60
DOCUMENTED_PORT = "8080"
IN_JAVASCRIPT = "node try_it.mjs"


class Newcomer:
    """Somebody who does what the page says, in a folder; with another port, as several tests may run at once."""

    def __init__(self, folder: Path, ending: ExitStack) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = str(free.getsockname()[1])
        self._folder = folder
        self._ending = ending
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path, "TALLYBOOK_PORT": self._port}
        for name, text in files(blocks(SERVE)).items():
            (folder / name).write_text(text.replace(DOCUMENTED_PORT, self._port))

    def follow(self, step: Step) -> None:
        """Do a step, and see that it prints what is shown."""
        if exported := re.fullmatch(r"export (\w+)=(.*)", step.command):
            self._environment[exported[1]] = self._run(f"printf %s {exported[2]}")
        else:
            printed = self._started(step.command) if step.command == "tallybook serve" else self._run(step.command)
            shown = step.printed.replace(DOCUMENTED_PORT, self._port)
            assert doctest.OutputChecker().check_output(shown, printed, doctest.ELLIPSIS), f"{step.command}\n{printed}"

    def _run(self, command: str) -> str:
        ran = subprocess.run(
            ["bash", "-c", command], cwd=self._folder, env=self._environment, capture_output=True,
            timeout=PATIENCE_SECONDS, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, f"{command}\n{ran.stdout}{ran.stderr}"
        return ran.stdout

    def _started(self, command: str) -> str:
        """The line that a server says when it listens; at the end it is stopped by Ctrl-C."""
        process = Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=self._folder,
            env=self._environment,
            stdout=PIPE,
            stderr=PIPE,
            text=True,
        )

        def stop() -> None:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE_SECONDS)
            assert process.returncode == 0

        self._ending.callback(stop)
        assert process.stdout is not None
        return process.stdout.readline()


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    """Somebody with an empty folder."""
    with ExitStack() as ending:
        yield Newcomer(tmp_path, ending)


def page() -> list[Step]:
    """The steps of the page."""
    return [step for block in blocks(SERVE) if block.language == "console" for step in steps(block)]


def test_the_page_leads_to_a_figure(newcomer: Newcomer) -> None:
    """From no ledger to a figure that Stripe's SDK for Python reads."""
    done = [newcomer.follow(step) for step in page() if step.command != IN_JAVASCRIPT]
    assert len(done) == len(page()) - 1


def test_the_page_leads_to_a_figure_in_javascript(newcomer: Newcomer, tmp_path: Path) -> None:
    """And to the same one that Stripe's SDK for Node reads."""
    if shutil.which("npm") is None:
        pytest.skip("there is no Node on this machine")
    install = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(tmp_path), "stripe"]
    installed = subprocess.run(install, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    if installed.returncode != 0:
        pytest.skip(f"npm can't install stripe here: {installed.stderr.strip()[-200:]}")
    for step in page():
        newcomer.follow(step)
