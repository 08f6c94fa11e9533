"""Verifying finds any change of the read models, and says in which row."""

import random
from collections.abc import Iterator

import msgspec
import pytest
from tallybook.application import Metering, TallybookError
from tallybook.domain import Meter
from tallybook.projections.rows import AsOf

from .histories import START, answers, record_history, report
from .kept_stores import KeptStore, Refused
from .stores import Store

PERIOD = START, START.replace(day=20)


@pytest.fixture
def live(kept_store: KeptStore) -> Iterator[Metering]:
    """A ledger with rules that changed, whose read models are as they should be, of the generation 2."""
    with kept_store.metering() as metering:
        record_history(metering, 20)
        metering.change_rules("tokens", {"event_time_window": "day"}, reason="billed by day")
        assert metering.verify().is_equal
        yield metering


def damage(store: KeptStore, statement: str, *given: object) -> None:
    """Change one row of the read models past the application, while a program has them open."""
    assert store.damage_views(statement, *given) == 1


def found(metering: Metering) -> list[str]:
    """What verifying finds, as "table: key"; or the code of the refusal that comes first."""
    try:
        verification = metering.verify()
    except TallybookError as refused:
        return [refused.code]
    assert not verification.is_equal
    differences = [one.difference for one in verification.tables if not one.is_equal]
    return [f"{one.table}: {one.key}" for one in differences if one is not None]


def first_row(table: str, key: str) -> str:
    """The condition for the first row of a table by its key."""
    return f"({key}) = (SELECT {key} FROM {table}_2 ORDER BY {key} LIMIT 1)"


ONE_ROW = {
    "meters": "meter = 1",
    "customers": "customer = 1",
    "usage": first_row("usage", "meter, customer, start, dimensions, first_position"),
    "totals": first_row("totals", "meter, bucket_seconds, start, customer, dimensions"),
}
NUMBER, TEXT, BYTES = "number", "text", "bytes"
COLUMNS = [
    *(("meters", column, TEXT) for column in ("event_name", "rules", "history")),
    *(("usage", column, NUMBER) for column in ("meter", "customer", "start", "first_position", "earliest", "latest")),
    *(("usage", column, NUMBER) for column in ("count", "last_at", "last_position")),
    *(("usage", column, kind) for column, kind in (("dimensions", TEXT), ("sum", TEXT), ("last", TEXT))),
    ("usage", "usages", BYTES),
    *(("totals", column, NUMBER) for column in ("meter", "bucket_seconds", "start", "customer")),
    *(("totals", column, NUMBER) for column in ("count", "last_at", "last_position")),
    *(("totals", column, TEXT) for column in ("dimensions", "sum", "last")),
    *(("meters", "meter", NUMBER), ("customers", "customer", NUMBER), ("customers", "name", TEXT)),
]
BY_WORDS = {
    "meters": "meters: meter tokens",
    "customers": "customers: customer ",
    "usage": "usage: meter tokens, customer ",
    "totals": "totals: meter tokens, bucket_seconds 86400, start 2026-10-",
}
Change = tuple[str, tuple[object, ...]]
MORE: dict[str, Change] = {
    NUMBER: ("coalesce({0}, 4) + 1", ()),
    TEXT: ("coalesce(replace({0}, 'day', 'hour') || '1', '5')", ()),
    BYTES: ("?", (b"\0\0\0",)),
}
OF_ANOTHER_TYPE: dict[str, Change] = {NUMBER: ("'text'", ()), TEXT: ("7", ()), BYTES: ("'text'", ())}
GARBAGE: Change = "?", (b"\xff\x00\xfe",)
NOTHING: Change = "NULL", ()


@pytest.mark.parametrize(("table", "column", "kind"), COLUMNS)
def test_one_changed_cell_is_found(live: Metering, kept_store: KeptStore, table: str, column: str, kind: str) -> None:
    """A little more, another type, garbage or nothing, in any column of any table: it is located, or the read models
    are refused as unreadable; never taken as right."""
    words = BY_WORDS[table] if column not in ("meter", "bucket_seconds", "start") else f"{table}: "
    for change, given in (MORE[kind], OF_ANOTHER_TYPE[kind], GARBAGE, NOTHING):
        with kept_store.undone(f"{table}_2"):
            statement = f"UPDATE {table}_2 SET {column} = {change.format(column)} WHERE {ONE_ROW[table]}"
            try:
                assert kept_store.damage_views(statement, *given) == 1
            except Refused:
                continue  # the table itself refuses it
            said = found(live)
            assert said == ["ledger_unavailable"] or any(one.startswith(words) for one in said), change


@pytest.mark.parametrize("number", range(6))
def test_one_changed_number_of_one_usage_is_found(live: Metering, kept_store: KeptStore, number: int) -> None:
    """Time, position, value, and when it was recorded and cancelled and at which position, wherever it is packed."""
    ((packed,),) = kept_store.views_rows(f"SELECT usages FROM usage_2 WHERE {ONE_ROW['usage']}")
    usages = msgspec.msgpack.decode(packed)
    usages[0] += [None] * (6 - len(usages[0]))
    is_text = isinstance(usages[0][number], str)
    usages[0][number] = "99" if is_text else (usages[0][number] or 0) + 1
    damage(kept_store, f"UPDATE usage_2 SET usages = ? WHERE {ONE_ROW['usage']}", msgspec.msgpack.encode(usages))
    (said,) = found(live)
    assert said.startswith("usage: meter tokens, customer ")


@pytest.mark.parametrize("table", ONE_ROW)
def test_a_missing_row_is_found(live: Metering, kept_store: KeptStore, table: str) -> None:
    """With its key, in the words that it stands for."""
    damage(kept_store, f"DELETE FROM {table}_2 WHERE {ONE_ROW[table]}")
    said = found(live)
    assert said == ["ledger_unavailable"] or any(one.startswith(BY_WORDS[table]) for one in said)


@pytest.mark.parametrize(
    ("table", "cells"),
    [
        ("meters", {"meter": 9, "event_name": "more"}),
        ("customers", {"customer": 900, "name": "nobody"}),
        ("usage", {"customer": 900}),
        ("usage", {"first_position": 0, "usages": b"\x90"}),
        ("totals", {"customer": 900}),
        ("totals", {"start": "x", "sum": "0", "count": 0, "last": None, "last_at": None, "last_position": None}),
    ],
)
def test_a_row_too_many_is_found(live: Metering, kept_store: KeptStore, table: str, cells: dict[str, object]) -> None:
    """Also one that adds nothing to any figure."""
    try:
        kept_store.add_to_views(f"{table}_2", **cells)
    except Refused:
        assert cells.get("start") == "x", "the table itself refuses it"
    else:
        assert any(one.startswith(f"{table}: ") for one in found(live))


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("UPDATE generations SET ledger_mark = 'x' WHERE generation = 2", "generations: column ledger_mark"),
        ("UPDATE generations SET ledger_mark = NULL WHERE generation = 2", "generations: column ledger_mark"),
        ("UPDATE generations SET pinned = '{}' WHERE generation = 2", "generations: column pinned, meter tokens"),
        ("UPDATE generations SET pinned = 'x' WHERE generation = 2", "generations: column pinned"),
        (
            "UPDATE generations SET pinned = replace(pinned, '\"sum\"', '\"last\"') WHERE generation = 2",
            "generations: column pinned, meter tokens",
        ),
        ("UPDATE tracking SET notification_id = 5 WHERE application_name = 'generation 2'", "ledger_unavailable"),
        ("DELETE FROM tracking WHERE application_name = 'generation 2'", "ledger_unavailable"),
        ("UPDATE tracking SET notification_id = 9000 WHERE application_name = 'generation 2'", "ledger_unavailable"),
    ],
)
def test_what_a_generation_says_of_itself_is_verified(
    live: Metering, kept_store: KeptStore, statement: str, expected: str
) -> None:
    """Its place in the ledger and the rules that it pins; where it can't be brought up to date, that is told."""
    damage(kept_store, statement)
    assert found(live) == [expected]


def test_what_cannot_be_right_is_refused_with_what_to_do(live: Metering, kept_store: KeptStore) -> None:
    """Questions too: a cell that can't be read is told as such, and deleting the file mends it."""
    damage(kept_store, f"UPDATE totals_2 SET sum = 'many' WHERE {ONE_ROW['totals']}")
    with pytest.raises(TallybookError, match=r"Delete their file \(.views\)"):
        answers(live)
    damage(kept_store, f"UPDATE totals_2 SET sum = '1' WHERE {ONE_ROW['totals']}")
    damage(kept_store, "DELETE FROM customers_2 WHERE customer = 1")
    with pytest.raises(TallybookError, match=r"Delete their file \(.views\)"):
        answers(live)


def test_read_models_past_the_end_of_the_ledger_are_not_answered_from(live: Metering, kept_store: KeptStore) -> None:
    """A position that no event has yet would hide what is recorded from there on."""
    damage(kept_store, "UPDATE tracking SET notification_id = 9000 WHERE application_name = 'generation 2'")
    with pytest.raises(TallybookError, match="past the ledger's end"):
        answers(live)


def test_a_position_that_was_set_back_is_refused(kept_store: KeptStore) -> None:
    """Wherever to, and whatever came since: nothing is counted twice, and the ledger opened again makes all anew."""
    with kept_store.opened() as metering:
        metering.configure_meter("tokens", customer_key="customer")
        for hour in range(6):  # each asked for by itself, and each earlier than the one before
            payload, at = {"customer": "acme", "value": "1"}, START.replace(hour=20 - hour)
            metering.record("tokens", payload, identifier=f"use-{hour}", timestamp=at)
            metering.catch_up()
        before = metering.totals("tokens", *PERIOD)
        for position in reversed(range(metering.catch_up())):
            damage(kept_store, "UPDATE tracking SET notification_id = ?", position)
            with pytest.raises(TallybookError, match=f"folded up to position {position}, and were"):
                metering.totals("tokens", *PERIOD)
    with kept_store.opened() as metering:
        assert metering.totals("tokens", *PERIOD) == before
        assert metering.verify().is_equal


def test_a_promotion_repairs(live: Metering, kept_store: KeptStore) -> None:
    """A generation that is built anew takes the place of a damaged one."""
    damage(kept_store, f"UPDATE totals_2 SET sum = '1000000' WHERE {ONE_ROW['totals']}")
    assert found(live)
    live.promote(live.rebuild().number)
    assert live.verify().is_equal


def test_a_closed_period_is_verified(live: Metering) -> None:
    """Its frozen figures are those of its position and rules, also once rules changed and more came."""
    assert live.verify().closed_periods == 0
    live.close_period("seats", "acme", START, START.replace(day=9))
    live.change_rules("seats", {"formula": "sum"}, reason="a test")
    verification = live.verify()
    assert (verification.closed_periods, verification.is_equal) == (1, True)


def test_verifying_goes_on_while_usage_arrives(store: Store) -> None:
    """It compares at the position that it began at; what is recorded meanwhile changes nothing."""
    with store.metering() as metering, store.metering() as other:
        record_history(metering, 40)

        def more(_: object) -> None:
            other.record_many([{"event_name": "tokens", "payload": {"customer": "new", "value": "1"}}])

        head = metering.catch_up()
        verification = metering.verify(more)
        assert (verification.is_equal, verification.position) == (True, head)
        assert metering.catch_up() > head


def test_rules_that_change_while_verifying_are_not_those_verified(
    kept_store: KeptStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The live generation is compared under the rules of the position that it stands at."""
    with kept_store.metering() as metering, kept_store.metering() as other:
        record_history(metering, 20)
        ledger = metering._ledger  # pyright: ignore[reportPrivateUsage]
        meters, once = ledger.meters, iter(["count"])

        def after_a_change(as_of: AsOf | None = None) -> Iterator[Meter]:
            for formula in once:
                other.change_rules("tokens", {"formula": formula}, reason="meanwhile")
            return meters(as_of)

        monkeypatch.setattr(ledger, "meters", after_a_change)
        assert metering.verify().is_equal
        assert metering.meter("tokens").revision == 2
        assert metering.verify().is_equal


def test_verifying_leaves_nothing_behind(live: Metering, kept_store: KeptStore) -> None:
    """Neither when it is done nor when it is interrupted."""
    before = kept_store.belongings()

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        live.verify(interrupt)
    assert live.verify().is_equal
    assert kept_store.belongings() == before


def test_a_ledger_that_lost_events_is_told(kept_store: KeptStore) -> None:
    """Where a stored event is gone, by force, verifying tells rather than waits for it."""
    with kept_store.metering() as metering:
        record_history(metering, 20)
        head = metering.catch_up()
        assert kept_store.damage_ledger("DELETE FROM stored_events WHERE position = ?", head) == 1
        assert found(metering) == ["ledger_unavailable"]
        metering.record_many([report(900, random.Random(1))])
        assert found(metering)


def test_a_closing_cannot_know_of_what_came_after_it(kept_store: KeptStore) -> None:
    """A closed period that says it knew of a later position is told, and what is owed on it shows all the same."""
    with kept_store.metering() as metering:
        record_history(metering, 30)
        closed = metering.close_period("tokens", "acme", *PERIOD)
    ((state,),) = kept_store.ledger_rows("SELECT state FROM stored_events WHERE topic = 'PeriodClosed'")
    later = state.replace(f'"position":{closed.position}'.encode(), b'"position":9999')
    assert later != state
    assert kept_store.damage_ledger("UPDATE stored_events SET state = ? WHERE topic = 'PeriodClosed'", later) == 1
    with kept_store.metering() as metering:
        payload = {"customer": "acme", "value": "500"}
        metering.record("tokens", payload, identifier="late", timestamp=START)
        (differing,) = metering.verify().differing_periods
        assert (differing.period.position, differing.expected.position) == (9999, closed.position)
        (adjustment,) = metering.adjustments("tokens")
        assert adjustment.difference == 500


@pytest.mark.parametrize(
    ("column", "wrong"), [("state", b"{"), ("originator_id", "period/tokens/other"), ("originator_version", 7)]
)
def test_a_closing_that_cannot_be_read_is_told_as_damage_of_the_ledger(
    kept_store: KeptStore, column: str, wrong: object
) -> None:
    """By verify, and by whatever asks for closed periods; figures that don't need it are answered."""
    with kept_store.metering() as metering:
        record_history(metering, 30)
        metering.close_period("tokens", "acme", *PERIOD)
        expected = metering.totals("tokens", *PERIOD)
    damaged = kept_store.damage_ledger(f"UPDATE stored_events SET {column} = ? WHERE topic = 'PeriodClosed'", wrong)
    assert damaged == 1
    with kept_store.metering() as metering:
        assert metering.totals("tokens", *PERIOD) == expected
        asking = (metering.verify, lambda: metering.closed_periods("tokens"), lambda: metering.adjustments("tokens"))
        for ask in asking:
            with pytest.raises(TallybookError) as refused:
                ask()
            assert refused.value.code == "ledger_damaged"
