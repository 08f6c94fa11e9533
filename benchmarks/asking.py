"""Asking: totals of a month, against plain SQL over a plain table of the same usage with an index that covers it."""

import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from tallybook.application import Metering, Total

from . import raw, usage
from .measure import Measured, agree, in_turns, milliseconds, seconds, speed_ratio

TABLE = (
    (
        "CREATE TABLE usage (event_name TEXT NOT NULL, customer TEXT NOT NULL, occurred_at INTEGER NOT NULL,"
        " value INTEGER NOT NULL)"
    ),
    """INSERT INTO usage
    SELECT json_extract(e, '$.event_name'), json_extract(e, '$.payload.customer'),
           CAST(strftime('%s', substr(json_extract(e, '$.occurred_at'), 1, 19)) AS INTEGER) * 1000000
           + CAST(substr(rtrim(substr(json_extract(e, '$.occurred_at'), 21), 'Z') || '000000', 1, 6) AS INTEGER),
           CAST(json_extract(e, '$.payload.tokens') AS INTEGER)
    FROM (SELECT CAST(state AS TEXT) AS e FROM ledger.stored_events WHERE topic = 'UsageRecorded')""",
    "CREATE INDEX usage_covered ON usage (event_name, customer, occurred_at, value)",
    "ANALYZE",
)
ONE = (
    "SELECT count(*), sum(value) FROM usage"
    " WHERE event_name = ? AND customer = ? AND occurred_at >= ? AND occurred_at < ?"
)
ALL = (
    "SELECT customer, count(*), sum(value) FROM usage WHERE event_name = ? AND occurred_at >= ? AND occurred_at < ?"
    " GROUP BY customer ORDER BY customer"
)
ODD = timedelta(hours=9, minutes=17, seconds=3)


def plain_table(ledger: Path, file: Path) -> sqlite3.Connection:
    """The usage of a ledger in a plain typed table."""
    usage.delete(file)
    connection = raw.connected(file)
    connection.execute("ATTACH ? AS ledger", (str(ledger),))
    for statement in TABLE:
        connection.execute(statement)
    connection.execute("DETACH ledger")
    return connection


def measure(ledger: Path, folder: Path, events: int, times: int) -> Iterator[Measured]:
    """One customer's month and everyone's; a whole month, and one with odd edges."""
    plain = plain_table(ledger, folder / "plain.db")
    agree("rows of the plain table", plain.execute("SELECT count(*) FROM usage").fetchone(), (events,))
    with usage.opened(ledger) as metering:
        metering.catch_up()
        for edges, cut in (("", timedelta(0)), (", odd edges", ODD)):
            one, all_of_them = _one(metering, cut), _all(metering, cut)
            yield _measured(f"total, one customer's month{edges}", one, _plain_one(plain, cut), times)
            yield _measured(f"totals, all customers' month{edges}", all_of_them, _plain_all(plain, cut), times // 10)
    plain.close()


Question = Callable[[int], list[tuple[str, int, Decimal]]]


def _one(metering: Metering, cut: timedelta) -> Question:
    def ask(turn: int) -> list[tuple[str, int, Decimal]]:
        customer = usage.CUSTOMERS[turn % len(usage.CUSTOMERS)]
        return _counted([metering.total("tokens", customer, usage.START + cut, usage.END - cut)])

    return ask


def _all(metering: Metering, cut: timedelta) -> Question:
    def ask(_: int) -> list[tuple[str, int, Decimal]]:
        return _counted(metering.totals("tokens", usage.START + cut, usage.END - cut))

    return ask


def _counted(totals: list[Total]) -> list[tuple[str, int, Decimal]]:
    return [(str(total.customer), total.count, total.sum) for total in totals]


def _plain_one(plain: sqlite3.Connection, cut: timedelta) -> Question:
    def ask(turn: int) -> list[tuple[str, int, Decimal]]:
        customer = usage.CUSTOMERS[turn % len(usage.CUSTOMERS)]
        count, total = plain.execute(ONE, ("tokens", customer, *_range(cut))).fetchone()
        return [(customer, count, Decimal(total or 0))]

    return ask


def _plain_all(plain: sqlite3.Connection, cut: timedelta) -> Question:
    def ask(_: int) -> list[tuple[str, int, Decimal]]:
        rows = plain.execute(ALL, ("tokens", *_range(cut)))
        return [(customer, count, Decimal(total)) for customer, count, total in rows]

    return ask


def _range(cut: timedelta) -> tuple[int, int]:
    return _microseconds(usage.START + cut), _microseconds(usage.END - cut)


def _microseconds(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000


def _measured(name: str, ours: Question, theirs: Question, times: int) -> Measured:
    turns = {ours: iter(range(times + 1)), theirs: iter(range(times + 1))}

    def ask(question: Question) -> float:
        turn = next(turns[question])
        answers: list[object] = []
        took = seconds(lambda: answers.append(question(turn)))
        said.setdefault(turn, []).extend(answers)
        return took

    said: dict[int, list[object]] = {}
    in_turns(lambda: ask(ours), lambda: ask(theirs), 1)  # warm both caches
    took = in_turns(lambda: ask(ours), lambda: ask(theirs), times)
    for one, other in said.values():
        agree(name, one, other)
    ratio = speed_ratio(*took)
    return Measured(
        name, ratio, "reported", None, {"ours p50/p99": milliseconds(took[0]), "theirs p50/p99": milliseconds(took[1])}
    )
