"""The contract of what is kept beside the events: found by kind and key, and written together with new events."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from datetime import datetime, timedelta

import pytest
from eventsourcing.persistence import IntegrityError
from tallybook.application import AlreadyKept, Keeper, KeptRow, Metering, Outcome, Receipt, TallybookError

from .histories import START, a_use, configure
from .kept_stores import KeptStore
from .stores import NOW, Store

ODD = ("'", '"', "%s", "a\nb", "\\x00", "{}", "ä", "日本", "🧾", " ", "a/b", "NULL", "k" * 500, "🧾" * 500)


def row(key: str, at: int = 0, body: bytes = b"", kind: str = "answer") -> KeptRow:
    """A row to keep."""
    return KeptRow(kind, key, at, body)


def report(identifier: str, value: str = "1") -> dict[str, object]:
    """A report of tokens."""
    payload = {"customer": "acme", "value": value}
    return {"event_name": "tokens", "identifier": identifier, "timestamp": START, "payload": payload}


@pytest.fixture
def keeper(metering: Metering) -> Keeper:
    """What is kept on each store, empty."""
    return metering.keeper()


def keys(rows: Sequence[KeptRow]) -> list[str]:
    """The keys of rows, in their order."""
    return [one.key for one in rows]


# --- rows by themselves -------------------------------------------------------------------------------


def test_what_is_kept_is_got_by_kind_and_key(keeper: Keeper) -> None:
    """As it was given, whatever the bytes; other kinds have keys of their own."""
    body = bytes(range(256))
    keeper.change(add=[row("a", -1, body), row("b", 2**62), row("a", 7, kind="other")])
    assert keeper.get("answer", ["a", "c", "b", "a"]) == {"a": row("a", -1, body), "b": row("b", 2**62)}
    assert keeper.get("other", ["a", "b"]) == {"a": row("a", 7, kind="other")}
    assert keeper.get("answer", []) == {}


def test_many_rows_are_kept_and_got_at_once(keeper: Keeper) -> None:
    """More than a statement on SQLite takes marks."""
    rows = [row(f"{number:05}", number, b"%d" % number) for number in range(1_300)]
    keeper.change(add=rows)
    assert keeper.get("answer", [f"{number:05}" for number in range(-10, 1_400)]) == {one.key: one for one in rows}


@pytest.mark.parametrize("key", ODD)
def test_a_key_may_be_any_text(keeper: Keeper, key: str) -> None:
    """Of up to 500 characters."""
    keeper.change(add=[row(key, body=b"1", kind="a kind's")])
    keeper.change(put=[row(key, body=b"2", kind="a kind's")])
    assert keeper.get("a kind's", [key]) == {key: row(key, body=b"2", kind="a kind's")}
    keeper.change(remove=[("a kind's", key)])
    assert keeper.get("a kind's", [key]) == {}


@pytest.mark.parametrize("key", ["", "k" * 501, "a\0b", "\ud800"])
def test_a_key_that_not_every_store_can_hold_is_refused(keeper: Keeper, key: str) -> None:
    """Wherever it is given, and all that goes with it."""
    for asked in (
        lambda: keeper.get("answer", ["a", key]),
        lambda: keeper.select("answer", after=key, limit=1),
        lambda: keeper.change(add=[row("a"), row(key)]),
        lambda: keeper.change(put=[row("a"), row(key)]),
        lambda: keeper.change(put=[row("a")], remove=[("answer", key)]),
    ):
        with pytest.raises(TallybookError) as refused:
            asked()
        assert (refused.value.code, refused.value.field) == ("parameter_invalid", "key")
    assert keeper.get("answer", ["a"]) == {}


def test_rows_are_listed_by_key_page_by_page(keeper: Keeper) -> None:
    """In the order of code points on each store, forwards and backwards; other kinds are left out."""
    given = ["a", "B", "ä", "b", "_", "a-b", "a b", "aB", "日", "🧾", "\uff11"]
    keeper.change(add=[row(key) for key in given] + [row("a", kind="answers"), row("z", kind="answe")])
    assert keys(keeper.select("answer", limit=100)) == sorted(given)
    assert keys(keeper.select("answer", limit=100, newest_first=True)) == sorted(given, reverse=True)
    for newest_first in (False, True):
        listed: list[str] = []
        while page := keeper.select("answer", after=listed[-1] if listed else None, limit=4, newest_first=newest_first):
            listed += keys(page)
        assert listed == sorted(given, reverse=newest_first)
    assert keys(keeper.select("answer", after="a!", limit=2)) == ["a-b", "aB"]
    assert keys(keeper.select("answer", after="a!", limit=2, newest_first=True)) == ["a b", "a"]


def test_what_is_due_comes_oldest_first(keeper: Keeper) -> None:
    """Up to and including a moment, ties by key."""
    keeper.change(add=[row("d", 3), row("a", 4), row("c", 1), row("b", 1), row("e", -5), row("x", 0, kind="other")])
    assert keys(keeper.due("answer", 3, 10)) == ["e", "b", "c", "d"]
    assert keys(keeper.due("answer", 2, 10)) == ["e", "b", "c"]
    assert keys(keeper.due("answer", 4, 2)) == ["e", "b"]
    assert keeper.due("answer", -6, 10) == []


def test_the_oldest_are_removed_up_to_a_moment(keeper: Keeper) -> None:
    """Some at a time, of one kind."""
    keeper.change(add=[row(f"{at}", at) for at in range(10)] + [row("x", 0, kind="other")])
    assert keeper.remove_until("answer", 6, 4) == 4
    assert keys(keeper.select("answer", limit=10)) == ["4", "5", "6", "7", "8", "9"]
    assert keeper.remove_until("answer", 6, 4) == 3
    assert keeper.remove_until("answer", 6, 4) == 0
    assert keys(keeper.select("answer", limit=10)) == ["7", "8", "9"]
    assert keys(keeper.select("other", limit=10)) == ["x"]


def test_adding_what_is_there_changes_nothing(keeper: Keeper) -> None:
    """Neither the row nor anything that goes with it; also where it is given twice."""
    keeper.change(add=[row("a", 1, b"first"), row("gone", 1)])
    before = keeper.select("answer", limit=10)
    for add in ([row("new"), row("a", 2, b"second")], [row("new"), row("new")], [row("a", 1, b"first")]):
        with pytest.raises(AlreadyKept):
            keeper.change(add=add, put=[row("gone", 2)], remove=[("answer", "gone")])
        assert keeper.select("answer", limit=10) == before


def test_a_change_takes_away_adds_and_puts_at_once(keeper: Keeper) -> None:
    """In this order, so that a row can be taken away and added anew; the last that is put under a key stays."""
    keeper.change(add=[row("a", 1), row("b", 1), row("c", 1)])
    keeper.change(
        add=[row("a", 2), row("d", 2)],
        put=[row("b", 2), row("e", 2), row("e", 3), row("d", 3)],
        remove=[("answer", "a"), ("answer", "c"), ("answer", "never there"), ("other", "b")],
    )
    assert keeper.select("answer", limit=10) == [row("a", 2), row("b", 2), row("d", 3), row("e", 3)]
    keeper.change()


def test_of_threads_that_add_one_row_one_does(store: Store) -> None:
    """All others are told, and nothing of theirs is kept."""
    with store.metering() as metering:
        metering.keeper()
        won: list[int] = []

        def add(number: int) -> None:
            with suppress(AlreadyKept):
                metering.keeper().change(add=[row("one", number), row(f"of {number}")])
                won.append(number)

        run([lambda number=number: add(number) for number in range(8)])
        assert len(won) == 1
        assert metering.keeper().select("answer", limit=20) == [row(f"of {won[0]}"), row("one", won[0])]


# --- alone --------------------------------------------------------------------------------------------


def test_one_at_a_time_does_something_alone(store: Store) -> None:
    """Others are told at once, on this opening of the ledger and on another; who does something else isn't."""
    with store.metering() as metering, store.metering() as another:
        keeper, elsewhere = metering.keeper(), another.keeper()
        with keeper.alone("sending / 1") as held:
            assert held
            tried: list[bool] = []

            def attempt() -> None:
                for one in (keeper, elsewhere):
                    with one.alone("sending / 1") as got:
                        tried.append(got)

            run([attempt, attempt])
            attempt()
            assert tried == [False] * 6
            with elsewhere.alone("sweeping") as swept:
                assert swept
        with elsewhere.alone("sending / 1") as held:
            assert held


def test_what_fails_alone_is_let_go(keeper: Keeper) -> None:
    """An error passes, and the next one may."""
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), keeper.alone("failing") as held:
            assert 1 / (not held)


def run(works: Sequence[object]) -> None:
    """Do works at once, each in a thread, and raise what one of them raised."""
    failures: list[BaseException] = []
    begun = threading.Barrier(len(works))

    def work(of: object) -> None:
        try:
            begun.wait()
            assert callable(of)
            of()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(of,)) for of in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


# --- together with events -----------------------------------------------------------------------------


@pytest.fixture
def tokens(metering: Metering) -> Iterator[Metering]:
    """A ledger with a meter, and one use recorded under `taken`."""
    configure(metering)
    metering.record_many([report("taken")])
    yield metering
    assert metering.verify().is_equal


def answer(key: str = "key") -> "Answers":
    """What keeps the receipts of a batch under a key, as a server does."""
    return Answers(key)


class Answers:
    """Keeps the receipts of a batch, and remembers how often it was asked to."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.asked: list[tuple[Sequence[Receipt], datetime]] = []

    def __call__(self, receipts: Sequence[Receipt], now: datetime) -> Sequence[KeptRow]:
        self.asked.append((receipts, now))
        return [
            row(self.key, body=f"{[(one.identifier, one.position, str(one.outcome)) for one in receipts]}".encode())
        ]


def test_receipts_are_kept_with_what_they_are_of(tokens: Metering) -> None:
    """Told as they are given, with the moment, once; durable together."""
    beside, head = answer(), tokens.catch_up()
    reports = [report("new"), report("taken"), report("taken", "2"), report("bad", "x"), report("new")]
    receipts = tokens.record_beside(reports, beside)
    assert [one.outcome for one in receipts] == [
        Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.CONFLICT, Outcome.REJECTED, Outcome.DUPLICATE,
    ]  # fmt: skip
    told, now = beside.asked[-1]
    assert [one[:3] for one in told] == [one[:3] for one in receipts]
    assert now == NOW
    kept = tokens.keeper().get("answer", ["key"])["key"]
    assert f"('new', {head + 1}, 'accepted'), ('taken', {head}, 'duplicate')".encode() in kept.body
    assert tokens.catch_up() == head + 1


@pytest.mark.parametrize("reports", [[], [report("taken")], [report("taken", "2")], [report("bad", "x")]])
def test_receipts_are_kept_where_nothing_is_new(tokens: Metering, reports: list[object]) -> None:
    """Duplicates and refusals are answers too."""
    head = tokens.catch_up()
    receipts = tokens.record_beside(reports, answer())
    assert [one.position for one in receipts] == [None if one.error and "bad" in str(one) else head for one in receipts]
    assert keys(tokens.keeper().select("answer", limit=10)) == ["key"]
    with pytest.raises(AlreadyKept):
        tokens.record_beside(reports, answer())
    assert tokens.catch_up() == head


def test_a_row_that_is_kept_leaves_no_event(tokens: Metering) -> None:
    """Nor another row; under another key the same report is new."""
    head = tokens.catch_up()
    tokens.keeper().change(add=[row("key", 1, b"first")])
    with pytest.raises(AlreadyKept):
        tokens.record_beside([report("new")], lambda receipts, now: [row("other"), *answer()(receipts, now)])
    assert tokens.keeper().select("answer", limit=10) == [row("key", 1, b"first")]
    assert tokens.catch_up() == head
    (receipt,) = tokens.record_beside([report("new")], answer("another"))
    assert (receipt.outcome, receipt.position) == (Outcome.ACCEPTED, head + 1)


def test_what_fails_beside_leaves_no_event(tokens: Metering) -> None:
    """The error passes as it is, and the next batch goes in."""
    head = tokens.catch_up()

    def fail(receipts: Sequence[Receipt], now: datetime) -> Sequence[KeptRow]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tokens.record_beside([report("new")], fail)
    assert tokens.catch_up() == head
    with pytest.raises(TallybookError):
        tokens.record_beside([report("new")], answer("k" * 501))
    assert tokens.record_beside([report("new")], answer())[0].position == head + 1


def test_a_taken_identifier_leaves_no_row(metering: Metering) -> None:
    """The batch is as if it had never been sent; nobody asks what is to be kept with it."""
    ledger = metering._ledger  # pyright: ignore[reportPrivateUsage]
    ledger.append_uses({"taken": a_use()})
    asked: list[object] = []
    with pytest.raises(IntegrityError):
        ledger.append_uses({"new": a_use(), "taken": a_use()}, (), lambda new: [row("key", len(asked))])
    assert metering.keeper().select("answer", limit=10) == []
    assert ledger.head() == 1
    new = ledger.append_uses({"new": a_use()}, (), lambda new: [row(name, at) for name, at in new.items()])
    assert metering.keeper().select("answer", limit=10) == [row("new", new["new"])]


def test_what_is_kept_is_told_anew_after_a_meter_has_changed(tokens: Metering, store: Store) -> None:
    """The receipts of the first decision are nobody's: the meter was deactivated while it was being stored."""
    beside, changed = answer(), threading.Event()
    ledger = tokens._ledger  # pyright: ignore[reportPrivateUsage]
    append = ledger.append_uses

    def deactivate_first(*arguments: object) -> object:
        if not changed.is_set():
            changed.set()
            tokens.deactivate_meter("tokens")
        return append(*arguments)  # type: ignore[arg-type]

    ledger.append_uses = deactivate_first  # type: ignore[method-assign]
    (receipt,) = tokens.record_beside([report("new")], beside)
    assert receipt.error is not None
    assert receipt.error.code == "archived_meter"
    assert b"rejected" in tokens.keeper().get("answer", ["key"])["key"].body
    assert [str(told[0].outcome) for told, _ in beside.asked] == ["rejected"]


def test_of_threads_with_one_key_one_records(store: Store) -> None:
    """Though each has other events: the others are told, with nothing of their own stored."""
    with store.metering() as metering:
        configure(metering)
        metering.keeper()
        head, won = metering.catch_up(), list[int]()

        def record(number: int) -> None:
            with suppress(AlreadyKept):
                metering.record_beside([report(f"{number}-{one}") for one in range(3)], answer())
                won.append(number)

        run([lambda number=number: record(number) for number in range(6)])
        assert len(won) == 1
        stored = [one.identifier for one in metering.events("tokens")]
        assert stored == [f"{won[0]}-{one}" for one in range(3)]
        assert (
            f"('{won[0]}-0', {head + 1}, 'accepted')".encode() in metering.keeper().get("answer", ["key"])["key"].body
        )


def test_of_threads_with_the_same_batch_one_records(store: Store) -> None:
    """A retry that comes while the first is at it counts once, and has one answer."""
    with store.metering() as metering:
        configure(metering)
        outcomes: list[str] = []

        def record() -> None:
            try:
                outcomes.extend(str(one.outcome) for one in metering.record_beside([report("a")], answer()))
            except AlreadyKept:
                outcomes.append("kept")

        run([record] * 6)
        assert sorted(outcomes) == ["accepted", *["kept"] * 5]
        assert b"accepted" in metering.keeper().get("answer", ["key"])["key"].body


# --- ledgers that outlive the program -----------------------------------------------------------------


def test_a_ledger_of_before_comes_to_have_the_table(kept_store: KeptStore) -> None:
    """When it is first asked for, and not before; the version of its tables stays."""
    with kept_store.opened() as metering:
        configure(metering)
        metering.record_many([report("old")])
    with pytest.raises(Exception, match="kept"):
        kept_store.ledger_rows("SELECT * FROM kept")
    with kept_store.opened() as metering:
        metering.record_beside([report("new")], answer())
    with kept_store.opened() as metering:
        assert keys(metering.keeper().select("answer", limit=10)) == ["key"]
        assert [one.identifier for one in metering.events("tokens")] == ["old", "new"]
        metering.keeper().change(put=[row("key", 5)])
    assert kept_store.ledger_rows("SELECT kind, key, at FROM kept") == [("answer", "key", 5)]


def test_openings_at_once_make_one_table(kept_store: KeptStore) -> None:
    """Whoever is first."""
    with closing(kept_store.ledger()):
        openings = [kept_store.ledger() for _ in range(4)]
    run([lambda ledger=ledger, n=n: ledger.keeper().change(add=[row(f"{n}")]) for n, ledger in enumerate(openings)])
    assert len(openings[0].keeper().select("answer", limit=10)) == 4
    for ledger in openings:
        ledger.close()


HOLDING = """
import sys
from tallybook.application import Metering
with Metering.open(sys.argv[1]) as metering, metering.keeper().alone("sending") as held:
    print(held, flush=True)
    sys.stdin.read()
"""


def test_of_processes_one_does_something_alone_and_another_once_it_is_killed(kept_store: KeptStore) -> None:
    """However it ends, it is let go."""
    with kept_store.opened() as metering:
        keeper = metering.keeper()
        command = [sys.executable, "-c", HOLDING, kept_store.url]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "True\n"
            with keeper.alone("sending") as held:
                assert not held
            process.kill()
        deadline, held = time.monotonic() + 20, False
        while not held and time.monotonic() < deadline:
            with keeper.alone("sending") as held:
                pass
        assert held


def test_old_answers_are_removed_while_others_are_kept(store: Store) -> None:
    """Those who sweep and those who record are in nobody's way."""
    with store.metering() as metering:
        configure(metering)
        keeper, many, later = metering.keeper(), 40, int((NOW + timedelta(days=1)).timestamp())
        keeper.change(add=[row(f"old {number:03}", number) for number in range(many)])
        removed: list[int] = []

        def sweep() -> None:
            while (count := keeper.remove_until("answer", many, 3)) > 0:
                removed.append(count)

        def record() -> None:
            for number in range(10):
                metering.record_beside([report(f"n{number}")], lambda _, __, n=number: [row(f"new {n}", later)])

        run([sweep, sweep, record])
        while count := keeper.remove_until("answer", many, 100):
            removed.append(count)
        assert sum(removed) == many
        assert len(keeper.select("answer", limit=100)) == 10
