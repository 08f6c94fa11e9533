"""Authentication: requests without a valid key get 401 or 403, and no other information."""

from base64 import b64encode
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tallybook.application import Metering
from tallybook.application.interfaces.http.catalogue import all_operations
from tallybook.application.interfaces.http.operations import Operation
from tallybook.domain.access_key import Scope

from .sdk.server_fixture import SdkServer, sdk_server

SCOPES = tuple(map(str, Scope))
OPERATIONS = {f"{operation.method} {operation.path}": operation for operation in all_operations()}
REQUEST_VARIANTS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "an unknown parameter": {"params": {"nonsense": "1"}},
    "a limit that is none": {"params": {"limit": "-1"}},
    "what isn't JSON": {"content": b"{", "headers": {"Content-Type": "application/json"}},
    "what is no form": {"content": b"a[=%ff", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
    "an unknown media type": {"content": b"<a/>", "headers": {"Content-Type": "text/xml"}},
    "an idempotency key that is too long": {"headers": {"Idempotency-Key": "x" * 300}},
    "too many events": {"json": {"events": [{}] * 200}},
}
INVALID_CREDENTIALS: dict[str, dict[str, str]] = {
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
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SdkServer]:
    """A server with one meter."""
    with sdk_server(tmp_path_factory.mktemp("server")) as running:
        with Metering.open(running.ledger) as metering:
            metering.meters.configure("tokens")
        yield running


@pytest.fixture(scope="module")
def keys(server: SdkServer) -> dict[str, str]:
    """A key of each scope."""
    return {scope: server.key(scope) for scope in SCOPES}


@pytest.fixture(scope="module")
def http_client(server: SdkServer) -> Iterator[httpx2.Client]:
    """A client of the server."""
    with httpx2.Client(base_url=server.url) as client:
        yield client


@pytest.mark.parametrize("name", OPERATIONS)
def test_unauthenticated_requests_are_rejected(http_client: httpx2.Client, name: str) -> None:
    """Without a key, every request gets the same 401 and a challenge."""
    for credential_name, headers in INVALID_CREDENTIALS.items():
        responses = [_request(http_client, OPERATIONS[name], headers, variant) for variant in REQUEST_VARIANTS.values()]
        assert {response.status_code for response in responses} == {401}, credential_name
        assert len({response.content for response in responses}) == 1, credential_name
        error = responses[0].json()["error"]
        assert error["type"] == "invalid_request_error"
        assert "param" not in error
        assert responses[0].headers["www-authenticate"].startswith("Bearer")
        assert responses[0].headers["stripe-should-retry"] == "false"


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_revoked_key_is_unauthenticated(server: SdkServer, http_client: httpx2.Client, name: str) -> None:
    """Of any scope."""
    operation = OPERATIONS[name]
    with Metering.open(server.ledger) as metering:
        key = metering.access_keys.create(SCOPES)
        headers = {"Authorization": f"Bearer {key.key}"}
        before = _request(http_client, operation, headers, REQUEST_VARIANTS["an unknown parameter"])
        assert before.status_code == 401 if operation.by_session else before.status_code in {400, 404}
        metering.access_keys.revoke(key.view.id)
    responses = [_request(http_client, operation, headers, variant) for variant in REQUEST_VARIANTS.values()]
    assert {response.status_code for response in responses} == {401}
    assert len({response.content for response in responses}) == 1


@pytest.mark.parametrize(("name", "scope"), [*product(OPERATIONS, SCOPES)])
def test_a_key_authorizes_its_scope(http_client: httpx2.Client, keys: dict[str, str], name: str, scope: str) -> None:
    """Without the scope only 403; with it, the errors of the parameters."""
    operation = OPERATIONS[name]
    basic = f"Basic {b64encode(f'{keys[scope]}:'.encode()).decode()}"
    for authorization in (f"Bearer {keys[scope]}", *((basic,) if scope == Scope.ADMIN else ())):
        headers = {"Authorization": authorization}
        responses = [_request(http_client, operation, headers, variant) for variant in REQUEST_VARIANTS.values()]
        if operation.by_session:
            assert {response.status_code for response in responses} == {401}
        elif scope in {"admin", operation.scope}:
            invalid_response = _request(http_client, operation, headers, REQUEST_VARIANTS["an unknown parameter"])
            assert invalid_response.status_code in {400, 404}
            assert not {response.status_code for response in responses} & {401, 403}
        else:
            assert {response.status_code for response in responses} == {403}
            assert len({response.content for response in responses}) == 1
            error = responses[0].json()["error"]
            assert error["code"] == "more_permissions_required"
            assert keys[scope] not in responses[0].text


def test_unauthenticated_requests_create_no_test_ledger(server: SdkServer, http_client: httpx2.Client) -> None:
    """With unknown test keys and tokens."""
    for operation, credential_name in product(OPERATIONS.values(), INVALID_CREDENTIALS):
        if "for tests" in credential_name:
            _request(http_client, operation, INVALID_CREDENTIALS[credential_name], {})
    files = [file.name for file in Path(server.ledger.removeprefix("sqlite:///")).parent.iterdir()]
    assert [name for name in files if "test" in name] == []


def _request(
    http_client: httpx2.Client, operation: Operation, headers: dict[str, str], variant: dict[str, Any]
) -> httpx2.Response:
    path = operation.path.replace("{id}", "mtr_dG9rZW5z")
    more: dict[str, Any] = {**variant, "headers": _bytes(headers) + _bytes(variant.get("headers", {}))}
    return http_client.request(operation.method, path, **more)


def _bytes(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
