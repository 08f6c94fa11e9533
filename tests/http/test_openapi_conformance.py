"""The OpenAPI document describes the server: schemathesis sends valid and invalid requests."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tallybook.application.interfaces.http.catalogue import REGISTRIES, all_operations
from tallybook.application.interfaces.http.openapi import build_document

from ..sampling import sample
from .sdk.meter_events import create_meter
from .sdk.server_fixture import SdkServer, sdk_server

SCHEMATHESIS = str(Path(sys.executable).with_name("schemathesis"))
MAX_SECONDS = 240
CONFIG = """
[checks]
# A documented request may be rejected, for example for an unknown meter or a name in use.
positive_data_acceptance.enabled = false
# A header that is too large is rejected first.
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 408, 409, 413, 429, 431]

# A form can't express what is wrong: an empty list is not in it, and a text is a list of one.
[[operations]]
include-operation-id = ["pause_job", "resume_job", "cancel_task", "create_embed_token"]
checks.negative_data_rejection.enabled = false
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SdkServer]:
    """A server with a meter."""
    with sdk_server(tmp_path_factory.mktemp("document")) as running:
        create_meter(running.client(), "tokens")
        yield running


@pytest.mark.parametrize("phase", ["coverage", "fuzzing", "stateful"])
def test_operations_with_an_access_key(server: SdkServer, tmp_path: Path, phase: str) -> None:
    """No server errors, no undocumented responses, no accepted invalid requests, no access without a key."""
    # Other phases revoke keys that they have listed: that of the requests.
    names = [
        operation.name
        for operation in all_operations()
        if not operation.by_session and (phase == "coverage" or operation.name != "revoke_access_key")
    ]
    if phase == "coverage":  # it sends the same requests each time, 100 for an operation
        names = sample(names, len(names) // 10)
    elif phase == "fuzzing":
        names = sample(names, len(names) // 2)
    only = [option for name in names for option in ("--include-operation-id", name)]
    _run(server, tmp_path, server.admin_key, "--phases", phase, "--max-examples", "5", *only)


def test_operations_with_a_session(server: SdkServer, tmp_path: Path) -> None:
    """The same for the stream."""
    token = server.client().v2.billing.meter_event_session.create().authentication_token
    names = [operation.name for operation in all_operations() if operation.by_session]
    only = [option for name in names for option in ("--include-operation-id", name)]
    _run(server, tmp_path, token, "--max-examples", "25", *only)


def _run(server: SdkServer, directory: Path, credentials: str, *options: str) -> None:
    (directory / "document.json").write_text(json.dumps(build_document(REGISTRIES)))
    (directory / "config.toml").write_text(CONFIG)
    completed = subprocess.run(
        [
            SCHEMATHESIS, "--config-file", "config.toml", "run", "document.json", "--url", server.url, "--seed", "1",
            "--header", f"Authorization: Bearer {credentials}", "--no-shrink", "--continue-on-failure",
            "--request-timeout", "10", *options,
        ],
        cwd=directory, capture_output=True, text=True, timeout=MAX_SECONDS, check=False,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stdout
    assert "passed" in completed.stdout.partition("Test cases:")[2]
