"""Idempotency keys: a request that is sent again gets the answer of the first one, and nothing is done twice."""

import re
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from hashlib import sha256

import msgspec

from ..stores.kept import AlreadyKept, Keeper, KeptRow
from .answers import Answer
from .refusals import Refusal

ANSWER = "answer"
LONGEST_KEY = 255
KEY = r"^[!-~]([ -~]*[!-~])?$"


class _Kept(msgspec.Struct, array_like=True):
    """An answer as it is kept; without a status the request has begun, and perhaps was cut off."""

    fingerprint: bytes
    request_id: str
    status: int = 0
    body: bytes = b""


class IdempotencyKey(msgspec.Struct, frozen=True):
    """What a caller calls a request, and what the request says."""

    owner: str
    key: str
    fingerprint: bytes

    @property
    def place(self) -> str:
        """Where its answer is kept. Every access key has keys of its own."""
        return f"{self.owner}/{self.key}"


def fingerprint_of(method: str, path: str, body: bytes) -> bytes:
    """What tells one request from another."""
    return sha256(b"\0".join((method.encode(), path.encode(), body))).digest()


def check_key(key: str | None) -> None:
    """Refuse a key that is too long, or no text. Raises Refusal."""
    if key is not None and not (len(key) <= LONGEST_KEY and _KEY.fullmatch(key)):
        raise Refusal(400, f"Idempotency keys are 1 to {LONGEST_KEY} printable characters.", kind="idempotency_error")


class KeptAnswers:
    """The answers of one ledger's requests, in its own database."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._in_progress: set[str] = set()
        self._lock = threading.Lock()

    def find(self, keys: Sequence[IdempotencyKey]) -> dict[str, Answer | Refusal]:
        """What is answered to those that were sent before, by place; a refusal where they said something else."""
        kept = self._keeper.get(ANSWER, [key.place for key in keys])
        found: dict[str, Answer | Refusal] = {}
        for key in keys:
            row = kept.get(key.place)
            if row is not None:
                one = _decode(row.body)
                if one.fingerprint != key.fingerprint:
                    found[key.place] = other_parameters(key.key)
                elif one.status:
                    found[key.place] = _again(one)
        return found

    def row(self, key: IdempotencyKey, answer: Answer, request_id: str, at: int) -> KeptRow:
        """An answer to keep, in the transaction of what it tells of."""
        return KeptRow(ANSWER, key.place, at, _encode(_Kept(key.fingerprint, request_id, answer.status, answer.body)))

    def once(self, key: IdempotencyKey, request_id: str, at: int, work: Callable[[bool], Answer]) -> Answer:
        """Answer `work`, or what was answered before.

        `work` is told whether it was begun before and cut off, or failed: what it would do may be done already. A
        refusal isn't kept, as nothing was done. Raises Refusal.
        """
        with self._alone(key.place):
            found = self.find([key]).get(key.place)
            if isinstance(found, Refusal):
                raise found
            if found is not None:
                return found
            was_begun = not self._begin(key, request_id, at)
            try:
                answer = work(was_begun)
            except Refusal as refusal:
                # Where something failed here, it may be done all the same; and who began it may be doing it still.
                if not (refusal.is_ours or was_begun):
                    self._keeper.change(remove=[(ANSWER, key.place)])
                raise
            self._keeper.change(put=[self.row(key, answer, request_id, at)])
            return answer

    def _begin(self, key: IdempotencyKey, request_id: str, at: int) -> bool:
        try:
            self._keeper.change(add=[KeptRow(ANSWER, key.place, at, _encode(_Kept(key.fingerprint, request_id)))])
        except AlreadyKept:
            return False
        return True

    @contextmanager
    def _alone(self, place: str) -> Generator[None]:
        with self._lock:
            if place in self._in_progress:
                raise _in_use(place.partition("/")[2])
            self._in_progress.add(place)
        try:
            yield
        finally:
            with self._lock:
                self._in_progress.discard(place)


def _again(kept: _Kept) -> Answer:
    return Answer(kept.status, kept.body, {"Idempotent-Replayed": "true", "Original-Request": kept.request_id})


def other_parameters(key: str) -> Refusal:
    """A key that was used for something else."""
    return Refusal(
        400,
        f"Keys for idempotent requests can only be used with the same parameters they were first used with. Try using "
        f"a key other than '{key}' if you meant to execute a different request.",
        kind="idempotency_error",
    )


def _in_use(key: str) -> Refusal:
    return Refusal(
        409,
        f"There is currently another in-progress request using this Idempotent Key '{key}'. Try again later.",
        kind="idempotency_error",
        code="idempotency_key_in_use",
    )


_KEY = re.compile(KEY)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Kept).decode
