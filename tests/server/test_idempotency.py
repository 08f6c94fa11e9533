"""Kept answers, on each store: found again by whoever asks the same, and done once by whoever asks at once."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Event, Thread

import pytest
from tallybook.application import Metering
from tallybook.application.server.answers import Answer
from tallybook.application.server.idempotency import (
    ANSWER,
    LONGEST_KEY,
    IdempotencyKey,
    KeptAnswers,
    check_key,
    fingerprint_of,
)
from tallybook.application.server.refusals import Refusal
from tallybook.application.stores.kept import AlreadyKept, Keeper, KeptRow

from ..contract.kept_stores import PostgresSchema, SQLiteFile
from .committers import committing, desk_of, ticket, uses

STORES = ("memory", "sqlite", "postgresql")
KEPT = ("sqlite", "postgresql")
DONE = Answer(200, b'{"id":"one"}')
ONE = IdempotencyKey("holder", "key", b"said")


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Metering]]:
    """Opens one ledger, as often as a test likes; one in memory is the same each time."""
    with ExitStack() as opened:
        if request.param == "memory":
            metering = opened.enter_context(Metering.open("sqlite://"))
            yield lambda: metering
        else:
            place = _place(request, tmp_path)
            yield lambda: opened.enter_context(closing(place.opened()))


def _place(request: pytest.FixtureRequest, directory: Path) -> SQLiteFile | PostgresSchema:
    if request.param == "sqlite":
        return SQLiteFile.beside(directory / "usage.db")
    return PostgresSchema.fresh(request.getfixturevalue("postgres"))


every_store = pytest.mark.parametrize("store", STORES, indirect=True)
kept_stores = pytest.mark.parametrize("store", KEPT, indirect=True)


@every_store
def test_the_first_answer_is_given_again(store: Callable[[], Metering]) -> None:
    """Whatever would be answered now; nothing is done."""
    answers = KeptAnswers(store().keeper())
    assert answers.once(ONE, "req_1", 0, lambda _: DONE) == DONE
    again = answers.once(ONE, "req_2", 0, lambda _: pytest.fail("it is done twice"))
    assert (again.status, again.body) == (DONE.status, DONE.body)
    assert again.headers == {"Idempotent-Replayed": "true", "Original-Request": "req_1"}


@kept_stores
def test_it_is_given_again_by_another_process(store: Callable[[], Metering]) -> None:
    """Answers are in the database."""
    KeptAnswers(store().keeper()).once(ONE, "req_1", 0, lambda _: DONE)
    again = KeptAnswers(store().keeper()).once(ONE, "req_2", 0, lambda _: pytest.fail("it is done twice"))
    assert again.body == DONE.body


@every_store
def test_something_else_is_refused_under_the_same_key(store: Callable[[], Metering]) -> None:
    """Naming the key; another holder's is another one."""
    answers = KeptAnswers(store().keeper())
    answers.once(ONE, "req_1", 0, lambda _: DONE)
    with pytest.raises(Refusal, match="a key other than 'key'") as refused:
        answers.once(IdempotencyKey("holder", "key", b"else"), "req_2", 0, lambda _: DONE)
    assert (refused.value.status, refused.value.error.type) == (400, "idempotency_error")
    other = Answer(200, b"other")
    assert answers.once(IdempotencyKey("another", "key", b"else"), "req_3", 0, lambda _: other) == other


@every_store
def test_a_refusal_uses_no_key_up(store: Callable[[], Metering]) -> None:
    """Nothing was done: the same key may say something else next."""
    answers = KeptAnswers(store().keeper())
    with pytest.raises(Refusal, match="no such thing"):
        answers.once(ONE, "req_1", 0, _raising(Refusal(404, "no such thing")))
    assert answers.once(IdempotencyKey("holder", "key", b"else"), "req_2", 0, _told).body == b"new"


@every_store
@pytest.mark.parametrize("error", [Refusal(503, "down"), Refusal(500, "broken"), KeyboardInterrupt(), OSError()])
def test_what_failed_here_may_be_done(store: Callable[[], Metering], error: BaseException) -> None:
    """Who tries again is told so, and something else stays refused."""
    answers = KeptAnswers(store().keeper())
    with pytest.raises(type(error)):
        answers.once(ONE, "req_1", 0, _raising(error))
    with pytest.raises(Refusal, match="same parameters"):
        answers.once(IdempotencyKey("holder", "key", b"else"), "req_2", 0, _told)
    assert answers.once(ONE, "req_3", 0, _told).body == b"begun before"
    assert answers.once(ONE, "req_4", 0, _told).body == b"begun before"


@every_store
def test_the_same_at_once_is_told_to_come_again(store: Callable[[], Metering]) -> None:
    """While the first is done, others get 409; then its answer."""
    answers = KeptAnswers(store().keeper())
    begun, may_end = Event(), Event()

    def slow(_: bool) -> Answer:
        begun.set()
        assert may_end.wait(10)
        return DONE

    first = Thread(target=lambda: answers.once(ONE, "req_1", 0, slow))
    first.start()
    try:
        assert begun.wait(10)
        with pytest.raises(Refusal) as refused:
            answers.once(ONE, "req_2", 0, _told)
        assert (refused.value.status, refused.value.error.code) == (409, "idempotency_key_in_use")
        assert refused.value.should_retry
    finally:
        may_end.set()
        first.join()
    assert answers.once(ONE, "req_3", 0, _told).body == DONE.body


@every_store
def test_many_are_found_at_once(store: Callable[[], Metering]) -> None:
    """Those that were answered, and those that say something else; not those that have only begun."""
    keeper = store().keeper()
    answers = KeptAnswers(keeper)
    keys = [IdempotencyKey("holder", f"{n}/é", b"%d" % n) for n in range(40)]
    keeper.change(add=[answers.row(key, Answer(200, key.fingerprint), f"req_{key.key}", 7) for key in keys[:30]])
    with pytest.raises(Refusal):
        answers.once(keys[30], "req_30", 0, _raising(Refusal(500, "broken")))
    asked = [*keys[1:], IdempotencyKey("holder", keys[0].key, b"else")]
    found = answers.find(asked)
    assert set(found) == {key.place for key in keys[:30]}
    assert isinstance(found[keys[0].place], Refusal)
    bodies = [one.body for key in keys[1:30] if isinstance(one := found[key.place], Answer)]
    assert bodies == [key.fingerprint for key in keys[1:30]]


@every_store
def test_an_answer_is_kept_once(store: Callable[[], Metering]) -> None:
    """Who adds a second one under its place is told that there is one."""
    keeper = store().keeper()
    answers = KeptAnswers(keeper)
    keeper.change(add=[answers.row(ONE, DONE, "req_1", 0)])
    with pytest.raises(AlreadyKept):
        keeper.change(add=[answers.row(ONE, DONE, "req_2", 0)])


class Late(KeptAnswers):
    """Answers that are looked up, and then something happens before anybody goes on."""

    def __init__(self, keeper: Keeper, meanwhile: Callable[[], None]) -> None:
        super().__init__(keeper)
        self._meanwhile: Callable[[], None] | None = meanwhile

    def find(self, keys: Sequence[IdempotencyKey]) -> dict[str, Answer | Refusal]:
        """What there is now; the first time, something happens then."""
        found = super().find(keys)
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return found


@kept_stores
def test_two_processes_record_one_request_once(store: Callable[[], Metering]) -> None:
    """The other one commits between a look-up and its commit: it records nothing, and gives that answer.

    What else was in its transaction is recorded in the next.
    """
    here, there = store(), store()
    here.configure_meter("tokens")
    key = here.create_access_key(["record"]).key
    bodies: list[bytes] = []

    async def other() -> None:
        async with committing(desk_of(there)) as committer:
            bodies.append((await committer.commit(ticket(key, uses("1"), key="one"))).body)

    async def one() -> list[Answer]:
        desk = desk_of(here)
        desk.answers = Late(here.keeper(), lambda: asyncio.run(other()))
        async with committing(desk) as committer:
            waiting = [ticket(key, uses("1"), key="one"), ticket(key, uses("2"), key="two"), ticket(key, uses("4"))]
            return await asyncio.gather(*(committer.commit(each) for each in waiting))

    answers = asyncio.run(one())
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert answers[0].body == bodies[0]
    assert [answer.headers.get("Idempotent-Replayed") for answer in answers] == ["true", None, None]
    assert sorted(str(event.value) for event in there.events("tokens")) == ["1", "2", "4"]
    kept = there.keeper().select(ANSWER, limit=10)
    assert [row.key.rpartition("/")[2] for row in kept] == ["one", "two"]
    assert all(isinstance(row, KeptRow) for row in kept)


@pytest.mark.parametrize(
    ("key", "is_one"),
    [
        (None, True), ("a", True), ("!", True), ("a b", True), ("x" * LONGEST_KEY, True), ("", False), (" ", False),
        (" a", False), ("a ", False), ("x" * (LONGEST_KEY + 1), False), ("é", False), ("a\n", False), ("a\tb", False),
        ("\x7f", False), ("٣", False),
    ],
)  # fmt: skip
def test_what_a_key_is(key: str | None, is_one: bool) -> None:
    """Up to 255 printable characters of ASCII, or none at all."""
    if is_one:
        check_key(key)
    else:
        with pytest.raises(Refusal) as refused:
            check_key(key)
        assert refused.value.error.type == "idempotency_error"


def test_requests_are_told_apart() -> None:
    """By method, path and body, wherever one ends and the next begins."""
    said = [
        ("POST", "/a", b"b"),
        ("POST", "/ab", b""),
        ("POST", "/a", b""),
        ("DELETE", "/a", b""),
        ("POST", "/", b"ab"),
    ]
    assert len({fingerprint_of(*one) for one in said}) == len(said)


def _told(was_begun: bool) -> Answer:
    return Answer(200, b"begun before" if was_begun else b"new")


def _raising(error: BaseException) -> Callable[[bool], Answer]:
    def work(_: bool) -> Answer:
        raise error

    return work
