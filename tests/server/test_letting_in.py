"""No key, no entry: who isn't let in gets 401 or 403, and learns nothing else."""

from base64 import b64encode
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest
from tallybook.application import Metering
from tallybook.application.server.catalogue import operations
from tallybook.application.server.routes import Operation

from .sdk.place import Place, place

SCOPES = ("record", "read", "admin")
EVERY = {f"{one.method} {one.path}": one for one in operations()}
GIVEN: dict[str, dict[str, Any]] = {
    "nothing": {},
    "an unknown parameter": {"params": {"nonsense": "1"}},
    "a limit that is none": {"params": {"limit": "-1"}},
    "what isn't JSON": {"content": b"{", "headers": {"Content-Type": "application/json"}},
    "what is no form": {"content": b"a[=%ff", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
    "an unknown media type": {"content": b"<a/>", "headers": {"Content-Type": "text/xml"}},
    "an idempotency key that is too long": {"headers": {"Idempotency-Key": "x" * 300}},
    "too many events": {"json": {"events": [{}] * 200}},
}
NOBODY: dict[str, dict[str, str]] = {
    "no header": {},
    "an empty header": {"Authorization": ""},
    "an empty key": {"Authorization": "Bearer"},
    "a password": {"Authorization": "Bearer open sesame"},
    "a key that there isn't": {"Authorization": f"Bearer sk_live_{'0' * 16}_{'x' * 43}"},
    "a key for tests that there isn't": {"Authorization": f"Bearer sk_test_{'0' * 16}_{'x' * 43}"},
    "a token that there isn't": {"Authorization": "Bearer mes_live_x"},
    "a token for tests that there isn't": {"Authorization": "Bearer mes_test_x"},
    "what isn't base64": {"Authorization": "Basic sk_live?"},
    "a user that there isn't": {"Authorization": f"Basic {b64encode(b'admin:admin').decode()}"},
    "bytes": {"Authorization": "Bearer \xff\xfe"},
    "another scheme": {"Authorization": "Digest sk_live_x"},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server with one meter."""
    with place(tmp_path_factory.mktemp("server")) as served:
        with Metering.open(served.ledger) as metering:
            metering.configure_meter("tokens")
        yield served


@pytest.fixture(scope="module")
def keys(server: Place) -> dict[str, str]:
    """A key of each scope."""
    return {scope: server.key(scope) for scope in SCOPES}


@pytest.fixture(scope="module")
def wire(server: Place) -> Iterator[httpx.Client]:
    """A connection to it."""
    with httpx.Client(base_url=server.url) as client:
        yield client


@pytest.mark.parametrize("name", EVERY)
def test_nobody_is_let_in(wire: httpx.Client, name: str) -> None:
    """Without a key, 401 with the same words whatever else is asked, and the word to show one."""
    for who, headers in NOBODY.items():
        answers = [_ask(wire, EVERY[name], headers, given) for given in GIVEN.values()]
        assert {answer.status_code for answer in answers} == {401}, who
        assert len({answer.content for answer in answers}) == 1, who
        error = answers[0].json()["error"]
        assert error["type"] == "invalid_request_error"
        assert "param" not in error
        assert answers[0].headers["www-authenticate"].startswith("Bearer")
        assert answers[0].headers["stripe-should-retry"] == "false"


@pytest.mark.parametrize("name", EVERY)
def test_a_revoked_key_is_nobodys(server: Place, wire: httpx.Client, name: str) -> None:
    """Of any scope."""
    operation = EVERY[name]
    with Metering.open(server.ledger) as metering:
        key = metering.create_access_key(SCOPES)
        headers = {"Authorization": f"Bearer {key.key}"}
        before = _ask(wire, operation, headers, GIVEN["an unknown parameter"])
        assert before.status_code == 401 if operation.by_session else before.status_code in {400, 404}
        metering.revoke_access_key(key.view.id)
    answers = [_ask(wire, operation, headers, given) for given in GIVEN.values()]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1


@pytest.mark.parametrize(("name", "scope"), [*product(EVERY, SCOPES)])
def test_a_key_opens_what_it_is_for(wire: httpx.Client, keys: dict[str, str], name: str, scope: str) -> None:
    """Without the scope 403 and nothing else; with it, what is wrong with the parameters."""
    operation = EVERY[name]
    for headers in (
        {"Authorization": f"Bearer {keys[scope]}"},
        {"Authorization": f"Basic {b64encode(f'{keys[scope]}:'.encode()).decode()}"},
    ):
        answers = [_ask(wire, operation, headers, given) for given in GIVEN.values()]
        if operation.by_session:
            assert {answer.status_code for answer in answers} == {401}
        elif scope in {"admin", operation.scope}:
            wrong = _ask(wire, operation, headers, GIVEN["an unknown parameter"])
            assert wrong.status_code in {400, 404}
            assert not {answer.status_code for answer in answers} & {401, 403}
        else:
            assert {answer.status_code for answer in answers} == {403}
            assert len({answer.content for answer in answers}) == 1
            error = answers[0].json()["error"]
            assert error["code"] == "more_permissions_required"
            assert keys[scope] not in answers[0].text


def test_nobody_begins_a_ledger_for_tests(server: Place, wire: httpx.Client) -> None:
    """Whatever is asked with keys and tokens for tests that there aren't."""
    for operation, who in product(EVERY.values(), NOBODY):
        if "for tests" in who:
            _ask(wire, operation, NOBODY[who], {})
    beside = [file.name for file in Path(server.ledger.removeprefix("sqlite:///")).parent.iterdir()]
    assert [name for name in beside if "test" in name] == []


def _ask(wire: httpx.Client, operation: Operation, headers: dict[str, str], given: dict[str, Any]) -> httpx.Response:
    path = operation.path.replace("{id}", "mtr_dG9rZW5z")
    more: dict[str, Any] = {**given, "headers": _bytes(headers) + _bytes(given.get("headers", {}))}
    return wire.request(operation.method, path, **more)


def _bytes(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
