"""Stored responses on each store: returned for repeated requests, and created once for concurrent ones."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Event, Thread

import pytest
from tallybook.application import Metering
from tallybook.application.interfaces.http.errors import ApiError
from tallybook.application.interfaces.http.idempotency import (
    MAX_IDEMPOTENCY_KEY_LENGTH,
    RESPONSE_KIND,
    IdempotencyKey,
    IdempotencyStore,
    check_key,
    request_fingerprint,
)
from tallybook.application.interfaces.http.responses import ApiResponse
from tallybook.application.storage.key_value import EntryExists, KeyValueEntry, KeyValueStore

from ..contract.persistent_stores import PostgresSchema, SQLiteFile
from .group_commit import meter_events, open_committer, pending_request, serve_ledger

STORES = ("memory", "sqlite", "postgresql")
PERSISTENT = ("sqlite", "postgresql")
RESPONSE = ApiResponse(200, b'{"id":"one"}')
KEY = IdempotencyKey("holder", "key", b"said")


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Metering]]:
    """Opens one ledger any number of times; an in-memory ledger is opened once."""
    with ExitStack() as opened:
        if request.param == "memory":
            metering = opened.enter_context(Metering.open("sqlite://"))
            yield lambda: metering
        else:
            location = _create_store(request, tmp_path)
            yield lambda: opened.enter_context(closing(location.open()))


def _create_store(request: pytest.FixtureRequest, directory: Path) -> SQLiteFile | PostgresSchema:
    if request.param == "sqlite":
        return SQLiteFile.in_file(directory / "usage.db")
    return PostgresSchema.create(request.getfixturevalue("postgres"))


every_store = pytest.mark.parametrize("store", STORES, indirect=True)
persistent_stores = pytest.mark.parametrize("store", PERSISTENT, indirect=True)


@every_store
def test_the_first_response_is_returned_again(store: Callable[[], Metering]) -> None:
    """Without running the request again."""
    responses = IdempotencyStore(store().key_value_store())
    assert responses.run_once(KEY, "req_1", 0, lambda _: RESPONSE) == RESPONSE
    repeated = responses.run_once(KEY, "req_2", 0, lambda _: pytest.fail("it is done twice"))
    assert (repeated.status, repeated.body) == (RESPONSE.status, RESPONSE.body)
    assert repeated.headers == {"Idempotent-Replayed": "true", "Original-Request": "req_1"}


@persistent_stores
def test_the_first_response_is_returned_by_another_process(store: Callable[[], Metering]) -> None:
    """Responses are stored in the database."""
    IdempotencyStore(store().key_value_store()).run_once(KEY, "req_1", 0, lambda _: RESPONSE)
    repeated = IdempotencyStore(store().key_value_store()).run_once(
        KEY, "req_2", 0, lambda _: pytest.fail("it is done twice")
    )
    assert repeated.body == RESPONSE.body


@every_store
def test_another_request_with_the_same_key_is_rejected(store: Callable[[], Metering]) -> None:
    """The error names the key; other access keys have their own keys."""
    responses = IdempotencyStore(store().key_value_store())
    responses.run_once(KEY, "req_1", 0, lambda _: RESPONSE)
    with pytest.raises(ApiError, match="a key other than 'key'") as exc_info:
        responses.run_once(IdempotencyKey("holder", "key", b"else"), "req_2", 0, lambda _: RESPONSE)
    assert (exc_info.value.status, exc_info.value.error.type) == (400, "idempotency_error")
    other = ApiResponse(200, b"other")
    assert responses.run_once(IdempotencyKey("another", "key", b"else"), "req_3", 0, lambda _: other) == other


@every_store
def test_a_rejected_request_does_not_consume_the_key(store: Callable[[], Metering]) -> None:
    """Nothing changed, so another request may use the key."""
    responses = IdempotencyStore(store().key_value_store())
    with pytest.raises(ApiError, match="no such thing"):
        responses.run_once(KEY, "req_1", 0, raise_error(ApiError(404, "no such thing")))
    assert responses.run_once(IdempotencyKey("holder", "key", b"else"), "req_2", 0, _is_retry_response).body == b"new"


@every_store
@pytest.mark.parametrize("error", [ApiError(503, "down"), ApiError(500, "broken"), KeyboardInterrupt(), OSError()])
def test_a_request_that_failed_internally_may_be_repeated(store: Callable[[], Metering], error: BaseException) -> None:
    """A retry is marked as such, and other parameters stay an error."""
    responses = IdempotencyStore(store().key_value_store())
    with pytest.raises(type(error)):
        responses.run_once(KEY, "req_1", 0, raise_error(error))
    with pytest.raises(ApiError, match="same parameters"):
        responses.run_once(IdempotencyKey("holder", "key", b"else"), "req_2", 0, _is_retry_response)
    assert responses.run_once(KEY, "req_3", 0, _is_retry_response).body == b"begun before as req_1"
    assert responses.run_once(KEY, "req_4", 0, _is_retry_response).body == b"begun before as req_1"


@every_store
def test_an_attempt_that_lost_has_the_response_of_the_other(store: Callable[[], Metering]) -> None:
    """Another process has made the change meanwhile, so that the first attempt finds nothing to change."""
    key_values = store().key_value_store()
    responses, of_other_process = IdempotencyStore(key_values), IdempotencyStore(key_values)

    def lose(_: str | None) -> ApiResponse:
        assert of_other_process.run_once(KEY, "req_2", 0, lambda _: RESPONSE) == RESPONSE
        raise ApiError(409, "it is closed")

    assert responses.run_once(KEY, "req_1", 0, lose).body == RESPONSE.body
    assert responses.run_once(KEY, "req_3", 0, _is_retry_response).body == RESPONSE.body


@every_store
def test_a_concurrent_request_with_the_same_key_gets_retry_after(store: Callable[[], Metering]) -> None:
    """409 while the first is running, then its response."""
    responses = IdempotencyStore(store().key_value_store())
    started, may_end = Event(), Event()

    def slow(_: str | None) -> ApiResponse:
        started.set()
        assert may_end.wait(10)
        return RESPONSE

    first = Thread(target=lambda: responses.run_once(KEY, "req_1", 0, slow))
    first.start()
    try:
        assert started.wait(10)
        with pytest.raises(ApiError) as exc_info:
            responses.run_once(KEY, "req_2", 0, _is_retry_response)
        assert (exc_info.value.status, exc_info.value.error.code) == (409, "idempotency_key_in_use")
        assert exc_info.value.should_retry
    finally:
        may_end.set()
        first.join()
    assert responses.run_once(KEY, "req_3", 0, _is_retry_response).body == RESPONSE.body


@every_store
def test_many_responses_are_found_in_bulk(store: Callable[[], Metering]) -> None:
    """Finished requests and parameter mismatches, but not unfinished requests."""
    key_values = store().key_value_store()
    responses = IdempotencyStore(key_values)
    keys = [IdempotencyKey("holder", f"{n}/é", b"%d" % n) for n in range(40)]
    key_values.apply(
        insert=[responses.entry(key, ApiResponse(200, key.fingerprint), f"req_{key.key}", 7) for key in keys[:30]]
    )
    with pytest.raises(ApiError):
        responses.run_once(keys[30], "req_30", 0, raise_error(ApiError(500, "broken")))
    lookups = [*keys[1:], IdempotencyKey("holder", keys[0].key, b"else")]
    found_responses = responses.find_responses(lookups)
    assert set(found_responses) == {*keys[1:30], lookups[-1]}
    assert isinstance(found_responses[lookups[-1]], ApiError)
    bodies = [response.body for key in keys[1:30] if isinstance(response := found_responses[key], ApiResponse)]
    assert bodies == [key.fingerprint for key in keys[1:30]]


@every_store
def test_a_response_is_stored_once(store: Callable[[], Metering]) -> None:
    """Storing a second one raises EntryExists."""
    key_values = store().key_value_store()
    responses = IdempotencyStore(key_values)
    key_values.apply(insert=[responses.entry(KEY, RESPONSE, "req_1", 0)])
    with pytest.raises(EntryExists):
        key_values.apply(insert=[responses.entry(KEY, RESPONSE, "req_2", 0)])


class DelayedStore(IdempotencyStore):
    """A store that runs an action after the first look-up."""

    def __init__(self, key_values: KeyValueStore, action: Callable[[], None]) -> None:
        super().__init__(key_values)
        self._action: Callable[[], None] | None = action

    def find_responses(self, keys: Sequence[IdempotencyKey]) -> dict[IdempotencyKey, ApiResponse | ApiError]:
        """Return the stored responses, then run the action once."""
        responses = super().find_responses(keys)
        action, self._action = self._action, None
        if action is not None:
            action()
        return responses


@persistent_stores
def test_two_processes_record_one_request_once(store: Callable[[], Metering]) -> None:
    """The other process commits between look-up and commit: this one records nothing and returns that response.

    Its other requests are recorded in the next transaction.
    """
    first_store, second_store = store(), store()
    first_store.meters.configure("tokens")
    key = first_store.access_keys.create(["record"]).key
    bodies: list[bytes] = []

    async def other() -> None:
        async with open_committer(serve_ledger(second_store)) as committer:
            bodies.append((await committer.submit(pending_request(key, meter_events("1"), key="one"))).body)

    async def commit_all() -> list[ApiResponse]:
        served_ledger = serve_ledger(first_store)
        served_ledger.idempotency = DelayedStore(first_store.key_value_store(), lambda: asyncio.run(other()))
        async with open_committer(served_ledger) as committer:
            waiting = [
                pending_request(key, meter_events("1"), key="one"),
                pending_request(key, meter_events("2"), key="two"),
                pending_request(key, meter_events("4")),
            ]
            return await asyncio.gather(*(committer.submit(request) for request in waiting))

    responses = asyncio.run(commit_all())
    assert [response.status for response in responses] == [200, 200, 200]
    assert responses[0].body == bodies[0]
    assert [response.headers.get("Idempotent-Replayed") for response in responses] == ["true", None, None]
    assert sorted(str(event.value) for event in second_store.events("tokens")) == ["1", "2", "4"]
    entries = second_store.key_value_store().scan(RESPONSE_KIND, limit=10)
    assert [row.key.rpartition("/")[2] for row in entries] == ["one", "two"]
    assert all(isinstance(row, KeyValueEntry) for row in entries)


@pytest.mark.parametrize(
    ("key", "is_one"),
    [
        (None, True), ("a", True), ("!", True), ("a b", True), ("x" * MAX_IDEMPOTENCY_KEY_LENGTH, True),
        ("", False), (" ", False), (" a", False), ("a ", False), ("x" * (MAX_IDEMPOTENCY_KEY_LENGTH + 1), False),
        ("é", False), ("a\n", False), ("a\tb", False), ("\x7f", False), ("٣", False),
    ],
)  # fmt: skip
def test_valid_idempotency_keys(key: str | None, is_one: bool) -> None:
    """Up to 255 printable ASCII characters, or no key."""
    if is_one:
        check_key(key)
    else:
        with pytest.raises(ApiError) as exc_info:
            check_key(key)
        assert exc_info.value.error.type == "idempotency_error"


def test_requests_have_distinct_fingerprints() -> None:
    """By method, path and body, with separators."""
    requests = [
        ("POST", "/a", b"b"),
        ("POST", "/ab", b""),
        ("POST", "/a", b""),
        ("DELETE", "/a", b""),
        ("POST", "/", b"ab"),
    ]
    assert len({request_fingerprint(*entry) for entry in requests}) == len(requests)


def _is_retry_response(interrupted: str | None) -> ApiResponse:
    return ApiResponse(200, b"new" if interrupted is None else f"begun before as {interrupted}".encode())


def raise_error(error: BaseException) -> Callable[[str | None], ApiResponse]:
    def handler(_: str | None) -> ApiResponse:
        raise error

    return handler
