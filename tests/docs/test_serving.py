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

TIMEOUT_SECONDS = 60
DOCUMENTED_PORT = "8080"
IN_JAVASCRIPT = "node try_it.mjs"


class QuickstartUser:
    """Follows the page in a folder, with a free port, since several tests may run at once."""

    def __init__(self, folder: Path, exit_stack: ExitStack) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = str(free.getsockname()[1])
        self._folder = folder
        self._exit_stack = exit_stack
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path, "TALLYBOOK_PORT": self._port}
        for name, text in files(blocks(SERVE)).items():
            (folder / name).write_text(text.replace(DOCUMENTED_PORT, self._port))

    def follow(self, step: Step) -> None:
        """Run a step and compare what it prints."""
        if exported := re.fullmatch(r"export (\w+)=(.*)", step.command):
            self._environment[exported[1]] = self._run(f"printf %s {exported[2]}")
        else:
            printed = self._start(step.command) if step.command == "tallybook serve" else self._run(step.command)
            expected = step.printed.replace(DOCUMENTED_PORT, self._port)
            assert doctest.OutputChecker().check_output(expected, printed, doctest.ELLIPSIS), (
                f"{step.command}\n{printed}"
            )

    def _run(self, command: str) -> str:
        ran = subprocess.run(
            ["bash", "-c", command], cwd=self._folder, env=self._environment, capture_output=True,
            timeout=TIMEOUT_SECONDS, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, f"{command}\n{ran.stdout}{ran.stderr}"
        return ran.stdout

    def _start(self, command: str) -> str:
        """Start a server and return its first line of output; it is stopped with Ctrl-C at the end."""
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
            process.communicate(timeout=TIMEOUT_SECONDS)
            assert process.returncode == 0

        self._exit_stack.callback(stop)
        assert process.stdout is not None
        return process.stdout.readline()


@pytest.fixture
def user(tmp_path: Path) -> Iterator[QuickstartUser]:
    """Return a user with an empty folder."""
    with ExitStack() as exit_stack:
        yield QuickstartUser(tmp_path, exit_stack)


def page_steps() -> list[Step]:
    """Return the steps of the page."""
    return [step for block in blocks(SERVE) if block.language == "console" for step in steps(block)]


def test_the_page_leads_to_a_total(user: QuickstartUser) -> None:
    """Stripe's SDK for Python queries the total of a new ledger."""
    outputs = [user.follow(step) for step in page_steps() if step.command != IN_JAVASCRIPT]
    assert len(outputs) == len(page_steps()) - 1


def test_the_page_leads_to_a_total_in_javascript(user: QuickstartUser, tmp_path: Path) -> None:
    """Stripe's SDK for Node queries the same total."""
    if shutil.which("npm") is None:
        pytest.skip("Node is not installed on this machine")
    install = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(tmp_path), "stripe"]
    installed = subprocess.run(install, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    if installed.returncode != 0:
        pytest.skip(f"npm can't install stripe here: {installed.stderr.strip()[-200:]}")
    for step in page_steps():
        user.follow(step)
