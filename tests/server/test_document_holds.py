"""The OpenAPI document says what the server does: schemathesis asks whatever it allows, and what it doesn't."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tallybook.application.server.catalogue import ROUTES, operations
from tallybook.application.server.openapi import document

from .sdk.place import Place, place
from .sdk.usage import create_meter

SCHEMATHESIS = str(Path(sys.executable).with_name("schemathesis"))
LONGEST_SECONDS = 120
CONFIG = """
[checks]
# What the document allows may be refused all the same: a meter that there isn't, a name that is taken.
positive_data_acceptance.enabled = false
# A header that is too large is refused before anything else is looked at.
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 408, 409, 413, 429, 431]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server with a meter."""
    with place(tmp_path_factory.mktemp("document")) as served:
        create_meter(served.client(), "tokens")
        yield served


@pytest.mark.parametrize("phase", ["coverage", "fuzzing", "stateful"])
def test_what_a_key_opens(server: Place, tmp_path: Path, phase: str) -> None:
    """No error of the server's, no answer that isn't in the document, nothing taken that it forbids, nobody let in."""
    by_session = [option for name in _by_session() for option in ("--exclude-operation-id", name)]
    _run(server, tmp_path, server.admin_key, "--phases", phase, "--max-examples", "8", *by_session)


def test_what_a_session_opens(server: Place, tmp_path: Path) -> None:
    """The stream likewise."""
    token = server.client().v2.billing.meter_event_session.create().authentication_token
    by_session = [option for name in _by_session() for option in ("--include-operation-id", name)]
    _run(server, tmp_path, token, "--max-examples", "50", *by_session)


def _run(server: Place, directory: Path, credentials: str, *options: str) -> None:
    (directory / "document.json").write_text(json.dumps(document(ROUTES)))
    (directory / "config.toml").write_text(CONFIG)
    done = subprocess.run(
        [
            SCHEMATHESIS, "--config-file", "config.toml", "run", "document.json", "--url", server.url, "--seed", "1",
            "--header", f"Authorization: Bearer {credentials}", "--no-shrink", "--continue-on-failure",
            "--request-timeout", "10", *options,
        ],
        cwd=directory, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout.partition("Test cases:")[2]


def _by_session() -> list[str]:
    return [one.name for one in operations() if one.by_session]
