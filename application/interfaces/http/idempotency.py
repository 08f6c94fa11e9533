"""Idempotency keys: a repeated request gets the stored response of the first one and takes effect once."""

import re
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256

import msgspec

from ...storage.key_value import EntryExists, KeyValueEntry, KeyValueStore
from .errors import ApiError
from .responses import ApiResponse

RESPONSE_KIND, IDENTIFIERS_KIND = "answer", "answer_identifiers"
MAX_IDEMPOTENCY_KEY_LENGTH = 255
KEY_PATTERN = r"^[!-~]([ -~]*[!-~])?$"


class _StoredResponse(msgspec.Struct, array_like=True):
    """A stored response. A status of 0 means that the request has started and may have been interrupted."""

    fingerprint: bytes
    request_id: str
    status: int = 0
    body: bytes = b""


class IdempotencyKey(msgspec.Struct, frozen=True):
    """The idempotency key of a request, with its owner's access key and the fingerprint of the request."""

    owner: str
    key: str
    fingerprint: bytes

    @property
    def storage_key(self) -> str:
        """Return the key of the stored response. Each access key has its own idempotency keys."""
        return f"{self.owner}/{self.key}"

    @property
    def identifiers_key(self) -> str:
        """Return the key of the identifiers of the request's events. Another request with the key has its own."""
        return f"{self.storage_key}/{self.fingerprint.hex()}"


def request_fingerprint(method: str, path: str, body: bytes) -> bytes:
    """Return a hash that identifies the content of a request."""
    return sha256(b"\0".join((method.encode(), path.encode(), body))).digest()


def check_key(key: str | None) -> None:
    """Raise ApiError if the key is empty, too long or not printable."""
    if key is not None and not (len(key) <= MAX_IDEMPOTENCY_KEY_LENGTH and _KEY_REGEX.fullmatch(key)):
        raise ApiError(
            400,
            f"Idempotency keys are 1 to {MAX_IDEMPOTENCY_KEY_LENGTH} printable characters.",
            error_type="idempotency_error",
        )


class IdempotencyStore:
    """The stored responses of one ledger, in its own database."""

    def __init__(self, key_values: KeyValueStore) -> None:
        self._key_values = key_values
        self._in_progress: set[str] = set()
        self._lock = threading.Lock()

    def find_responses(self, keys: Sequence[IdempotencyKey]) -> dict[IdempotencyKey, ApiResponse | ApiError]:
        """Return the responses of repeated requests; an ApiError if the parameters differ."""
        responses = {key: _response_to(key, stored) for key, stored in self._find_all(keys).items()}
        return {key: response for key, response in responses.items() if response is not None}

    def entry(self, key: IdempotencyKey, response: ApiResponse, request_id: str, at: int) -> KeyValueEntry:
        """Return the entry of a response, to store in the transaction that the response reports."""
        return KeyValueEntry(
            RESPONSE_KIND,
            key.storage_key,
            at,
            _encode(_StoredResponse(key.fingerprint, request_id, response.status, response.body)),
        )

    def find_identifiers(self, key: IdempotencyKey) -> list[str | None] | None:
        """Return the identifiers that the events of a request without a response were recorded under, if it is known.

        A repetition has to record those events under the same identifiers that have none of their own.
        """
        entry = self._key_values.get(IDENTIFIERS_KIND, [key.identifiers_key]).get(key.identifiers_key)
        return None if entry is None else _decode_identifiers(entry.body)

    def identifiers_entry(self, key: IdempotencyKey, identifiers: Sequence[str | None], at: int) -> KeyValueEntry:
        """Return the entry of the identifiers of a request, to store in the transaction of its events."""
        return KeyValueEntry(IDENTIFIERS_KIND, key.identifiers_key, at, _encode(identifiers))

    def run_once(
        self, key: IdempotencyKey, request_id: str, at: int, work: Callable[[str | None], ApiResponse]
    ) -> ApiResponse:
        """Return the result of `work`, or the stored response of the same request.

        `work` receives the id of an earlier request that was interrupted or failed, so that its changes may exist
        already. Errors of the client are not stored, as nothing was changed. Raises ApiError.
        """
        with self._claim(key.storage_key):
            earlier = self._find_or_start(key, request_id, at)
            stored = None if earlier is None else _response_to(key, earlier)
            if isinstance(stored, ApiError):
                raise stored
            if stored is not None:
                return stored
            try:
                response = work(None if earlier is None else earlier.request_id)
            except ApiError as api_error:
                # After a server error the change may exist, and after a retry the first attempt may still be running.
                if not api_error.is_server_error and earlier is None:
                    finished = self.find_responses([key]).get(key)
                    if isinstance(finished, ApiResponse):  # another process has made the change meanwhile
                        return finished
                    self._key_values.apply(delete=[(RESPONSE_KIND, key.storage_key)])
                raise
            self._key_values.apply(upsert=[self.entry(key, response, request_id, at)])
            return response

    def _find_or_start(self, key: IdempotencyKey, request_id: str, at: int) -> _StoredResponse | None:
        """Return what an earlier request with the key has stored; None after storing that this one has started."""
        started = KeyValueEntry(
            RESPONSE_KIND, key.storage_key, at, _encode(_StoredResponse(key.fingerprint, request_id))
        )
        while (earlier := self._find_all([key]).get(key)) is None:
            with suppress(EntryExists):  # of a request that came meanwhile
                self._key_values.apply(insert=[started])
                return None
        return earlier

    def _find_all(self, keys: Sequence[IdempotencyKey]) -> dict[IdempotencyKey, _StoredResponse]:
        entries = self._key_values.get(RESPONSE_KIND, [key.storage_key for key in keys])
        return {key: _decode(entries[key.storage_key].body) for key in keys if key.storage_key in entries}

    @contextmanager
    def _claim(self, storage_key: str) -> Generator[None]:
        with self._lock:
            if storage_key in self._in_progress:
                raise key_in_use(storage_key.partition("/")[2])
            self._in_progress.add(storage_key)
        try:
            yield
        finally:
            with self._lock:
                self._in_progress.discard(storage_key)


def _response_to(key: IdempotencyKey, stored: _StoredResponse) -> ApiResponse | ApiError | None:
    """Return the response to a repeated request; an ApiError if the parameters differ, None if there is none yet."""
    if stored.fingerprint != key.fingerprint:
        return parameters_mismatch(key.key)
    if not stored.status:
        return None
    return ApiResponse(
        stored.status, stored.body, {"Idempotent-Replayed": "true", "Original-Request": stored.request_id}
    )


def parameters_mismatch(key: str) -> ApiError:
    """Return the error for a key that was used with other parameters."""
    return ApiError(
        400,
        f"Keys for idempotent requests can only be used with the same parameters they were first used with. Try using "
        f"a key other than '{key}' if you meant to execute a different request.",
        error_type="idempotency_error",
    )


def key_in_use(key: str) -> ApiError:
    """Return the error for a key that another request uses at the moment."""
    return ApiError(
        409,
        f"There is currently another in-progress request using this Idempotent Key '{key}'. Try again later.",
        error_type="idempotency_error",
        code="idempotency_key_in_use",
    )


_KEY_REGEX = re.compile(KEY_PATTERN)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_StoredResponse).decode
_decode_identifiers = msgspec.msgpack.Decoder(list[str | None]).decode
