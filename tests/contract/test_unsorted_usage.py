"""Usage out of order is stored by month until there is enough of it. No result depends on that."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from tallybook.application import Metering
from tallybook.application.queries import changed_periods
from tallybook.application.storage.sqlite.statements import SQLiteReadModels
from tallybook.projections import unsorted_usage

from .persistent_stores import PersistentStore, SQLiteFile, StoreRejected
from .test_verify import COLUMNS, GARBAGE, INCREASED, NULL_VALUE, OTHER_TYPE, verification_findings

DAYS = [28, 3, 17, 9, 21, 6, 12, 25]
"""The days of October on which a customer has usage, in the order of recording."""
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
HALF_A_DAY = timedelta(hours=12)
WITHIN = OCTOBER[0] + 2 * HALF_A_DAY + timedelta(hours=5), OCTOBER[1] - 7 * HALF_A_DAY
ALL_DAYS = OCTOBER[0] + timedelta(days=min(DAYS), minutes=30), OCTOBER[0] + timedelta(days=max(DAYS), hours=23)
"""All usage, in a part of a day, whole days, and a part of another day."""
WEEK = OCTOBER[0] + timedelta(days=7), OCTOBER[0] + timedelta(days=14)
CUSTOMERS = ("acme", "beta")


def configure(metering: Metering) -> None:
    """Configure a meter with a dimension and a filter, and one that counts unique values."""
    metering.meters.configure(
        "tokens",
        customer_key="customer",
        dimension_keys=["model"],
        filter={"not": {"key": "kind", "equals": "test"}},
    )
    metering.meters.configure("users", formula="unique_count", customer_key="customer", value_key="user")


def record_page(metering: Metering, page: int, *, is_projected_at_once: bool = True) -> None:
    """Record events of each customer on all of DAYS, and project them, as one page or one by one."""
    for number, day in enumerate(DAYS):
        at = OCTOBER[0] + timedelta(days=day, hours=(5 * page + number) % 24)
        for customer in CUSTOMERS:
            tokens = {"customer": customer, "value": f"{number}.{page}", "model": "large" if page % 2 else "small"}
            kind = {"kind": "test"} if number == 2 else {}
            name = f"{customer}-{page}-{number}"
            metering.record("tokens", tokens | kind, identifier=f"use-{name}", timestamp=at)
            users = {"customer": customer, "user": f"user {number % 3 + page}"}
            metering.record("users", users, identifier=f"user-{name}", timestamp=at)
            if not is_projected_at_once:
                metering.catch_up()
    metering.catch_up()


def unsorted_records(metering: Metering) -> dict[str, int]:
    """Return how many records of each meter are unsorted."""
    with metering._read_models.read_session() as reader:  # pyright: ignore[reportPrivateUsage]
        return {
            name: sum(
                len(records)
                for records in reader.usage_in(
                    meter.row_id, list(reader.unsorted_blocks_between(meter.row_id, None, 0, 2**62))
                )
            )
            for name, meter in reader.meters().items()
        }


QUERIES: dict[str, Callable[[Metering], object]] = {
    "month": lambda metering: metering.total("tokens", "acme", *OCTOBER),
    "range within days": lambda metering: metering.total("tokens", "acme", *WITHIN),
    "range of parts of days": lambda metering: metering.total("tokens", "acme", *ALL_DAYS),
    "range of parts of days of all customers": lambda metering: list(
        metering.totals("tokens", *ALL_DAYS, group_by=["model"])
    ),
    "week": lambda metering: metering.total("tokens", "beta", *WEEK),
    "week of all customers": lambda metering: list(metering.totals("tokens", *WEEK)),
    "range of all customers": lambda metering: list(metering.totals("tokens", *WITHIN)),
    "selection": lambda metering: metering.total("tokens", None, *WITHIN, where={"model": "large"}),
    "days": lambda metering: list(metering.summaries("tokens", "acme", *OCTOBER, window="day")),
    "hours in Kathmandu": lambda metering: list(
        metering.summaries("tokens", None, *WITHIN, window="hour", timezone="Asia/Kathmandu")
    ),
    "month as of a position": lambda metering: metering.total("tokens", "acme", *OCTOBER, as_of=40),
    "range as of a position": lambda metering: list(metering.totals("tokens", *WITHIN, as_of=40)),
    "explanation": lambda metering: metering.explain("tokens", "acme", *WITHIN),
    "explanation of all customers": lambda metering: metering.explain("tokens", None, *WITHIN, as_of=60),
    "events": lambda metering: list(metering.events("tokens")),
    "unique values": lambda metering: metering.total("users", "acme", *WITHIN),
    "unique values of all customers": lambda metering: list(metering.totals("users", *OCTOBER)),
}


def results(metering: Metering) -> dict[str, object]:
    """Return the result of each query, and the digests of the tables."""
    verification = metering.verify()
    assert verification.is_equal
    digests = [(table.table, table.rows, table.digest) for table in verification.tables]
    return {name: query(metering) for name, query in QUERIES.items()} | {"tables": digests}


def test_results_are_those_of_events_that_were_projected_one_by_one(persistent_store: PersistentStore) -> None:
    """Unsorted usage is in all results, also in the rows that verification compares."""
    found: list[dict[str, object]] = []
    for store, is_projected_at_once in ((persistent_store, True), (persistent_store.new_location(), False)):
        with store.metering() as metering:
            configure(metering)
            for page in range(3):
                record_page(metering, page, is_projected_at_once=is_projected_at_once)
            unsorted = 3 * len(DAYS) * len(CUSTOMERS) if is_projected_at_once else 0
            assert unsorted_records(metering) == {"tokens": unsorted, "users": unsorted}
            found.append(results(metering))
    assert found[0] == found[1]


def test_closings_and_adjustments_are_those_of_events_that_were_projected_one_by_one(
    persistent_store: PersistentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run closes customers who have unsorted usage only, and more of it is an adjustment of each."""
    monkeypatch.setattr(changed_periods, "FEW_CLOSINGS", 0)
    found: list[object] = []
    for store, is_projected_at_once in ((persistent_store, True), (persistent_store.new_location(), False)):
        with store.metering() as metering:
            configure(metering)
            record_page(metering, 0, is_projected_at_once=is_projected_at_once)
            run = metering.periods.run(*WITHIN)
            record_page(metering, 1, is_projected_at_once=is_projected_at_once)
            closings = [metering.periods.list(event_name) for event_name in ("tokens", "users")]
            adjustments = list(metering.periods.adjustments("tokens"))
            assert (run.differences, len(adjustments)) == ((), len(CUSTOMERS))
            found.append((run.run.meters, closings, adjustments))
    assert found[0] == found[1]


def test_the_usage_of_a_full_month_is_sorted(
    persistent_store: PersistentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page adds 8 records of about 25 bytes; the usage of a page is added after the month was sorted."""
    monkeypatch.setattr(unsorted_usage, "MAX_UNSORTED_BYTES", 600)
    with persistent_store.metering() as metering:
        configure(metering)
        found: list[int] = []
        for page in range(0, 12, 2):  # of one model
            record_page(metering, page)
            found.append(unsorted_records(metering)["tokens"])
        assert found == [16, 32, 16, 32, 16, 32]
        assert metering.total("tokens", None, *OCTOBER).count == 6 * 7 * len(CUSTOMERS)
        assert metering.verify().is_equal


def test_usage_of_a_long_page_is_not_left_unsorted(
    persistent_store: PersistentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of a rebuild or of a large import."""
    monkeypatch.setattr(unsorted_usage, "MAX_PAGE_RECORDS", len(CUSTOMERS) * len(DAYS) - 1)
    with persistent_store.metering() as metering:
        configure(metering)
        record_page(metering, 0)
        assert unsorted_records(metering) == {"tokens": 0, "users": 0}
        monkeypatch.setattr(unsorted_usage, "MAX_PAGE_RECORDS", len(CUSTOMERS) * len(DAYS))
        record_page(metering, 1)
        assert unsorted_records(metering)["tokens"] == len(CUSTOMERS) * len(DAYS)
        assert metering.verify().is_equal


def test_the_oldest_usage_is_sorted_if_a_meter_has_too_much(
    persistent_store: PersistentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Usage that is recorded customer by customer is in order of time only within each of them."""
    monkeypatch.setattr(unsorted_usage, "MAX_UNSORTED_BYTES_OF_METER", 800)
    with persistent_store.metering() as metering:
        metering.meters.configure("calls", customer_key="customer")
        found: list[int] = []
        for customer in range(9):
            for day in DAYS:
                payload = {"customer": f"customer {customer}", "value": "1"}
                metering.record("calls", payload, timestamp=OCTOBER[0] + timedelta(days=day))
            metering.catch_up()
            found.append(unsorted_records(metering)["calls"] // len(DAYS))
        assert found == [1, 2, 3, 4, 3, 4, 3, 4, 3]
        with metering._read_models.read_session() as reader:  # pyright: ignore[reportPrivateUsage]
            unsorted = {block.key[0] for block in reader.unsorted_blocks_between(1, None, 0, 2**62)}
        assert unsorted == {7, 8, 9}
        assert [total.count for total in metering.totals("calls", *WEEK)] == [2] * 9
        assert metering.verify().is_equal


def test_the_unsorted_usage_of_many_customers_is_verified(persistent_store: PersistentStore) -> None:
    """A month of a customer has several blocks, whose records of a day are compared in the order of the ledger."""
    with persistent_store.metering() as metering:
        metering.meters.configure("calls", customer_key="customer")
        random_days = random.Random(1)
        for _ in range(3):
            metering.record_many(
                {
                    "event_name": "calls",
                    "payload": {"customer": f"customer {customer}", "value": "1"},
                    "timestamp": datetime(2026, month, random_days.randrange(1, 29), tzinfo=UTC),
                }
                for month in (8, 9, 10)
                for _ in range(12)
                for customer in range(40)
            )
            metering.catch_up()
        assert unsorted_records(metering)["calls"] > 0
        assert metering.verify().is_equal


def test_rows_are_compared_in_a_stated_order(file_store: SQLiteFile) -> None:
    """SQLite can reverse the rows of statements without an order."""
    with file_store.metering() as metering:
        configure(metering)
        for page in range(0, 6, 2):
            record_page(metering, page)
        with metering._read_models.read_session() as reader:  # pyright: ignore[reportPrivateUsage]
            assert isinstance(reader, SQLiteReadModels)
            expected = [list(reader.table_rows(table)) for table in ("usage", "totals")]
            reader.execute("PRAGMA reverse_unordered_selects = ON")
            found = [list(reader.table_rows(table)) for table in ("usage", "totals")]
            reader.execute("PRAGMA reverse_unordered_selects = OFF")
        assert found == expected


def record_in_order(metering: Metering) -> None:
    """Record usage of one day of acme."""
    for hour in range(2):
        tokens = {"customer": "acme", "value": "1", "model": "small"}
        metering.record("tokens", tokens, timestamp=OCTOBER[0] + timedelta(days=28, hours=hour))


def cancel_an_unsorted_event(metering: Metering) -> None:
    """Cancel an event of acme of an earlier page."""
    metering.cancel("tokens", "use-acme-0-4")


def cancel_an_event_of_the_page(metering: Metering) -> None:
    """Record usage of acme out of order, and cancel an event of it."""
    for day in (2, 4, 8, 16):
        tokens = {"customer": "acme", "value": "1", "model": "small"}
        at = OCTOBER[0] + timedelta(days=day)
        metering.record("tokens", tokens, identifier=f"late-{day}", timestamp=at)
    metering.cancel("tokens", "late-8")


@pytest.mark.parametrize("change", [record_in_order, cancel_an_unsorted_event, cancel_an_event_of_the_page])
def test_usage_is_sorted_by_a_change_of_its_month(
    persistent_store: PersistentStore, change: Callable[[Metering], None]
) -> None:
    """That of the customer and the dimension values is moved to days; that of others stays unsorted."""
    with persistent_store.metering() as metering:
        configure(metering)
        record_in_order(metering)  # on a day on which the usage of the page is unsorted
        metering.catch_up()
        record_page(metering, 0)
        assert unsorted_records(metering)["tokens"] == 2 * len(DAYS)
        change(metering)
        metering.catch_up()
        assert unsorted_records(metering)["tokens"] == len(DAYS)
        sorted_results = results(metering)
    persistent_store.delete_read_models()
    with persistent_store.metering() as metering:
        assert results(metering) == sorted_results


def test_unsorted_usage_of_a_meter_with_windows_is_detected(persistent_store: PersistentStore) -> None:
    """Queries of such a meter would count all of it, not one event of each window."""
    with persistent_store.metering() as metering:
        configure(metering)
        record_page(metering, 0)
        metering.meters.configure("peaks", formula="last", event_time_window="day", customer_key="customer")
        metering.record("peaks", {"customer": "acme", "value": "5"}, timestamp=OCTOBER[0])
        assert metering.verify().is_equal
        assert persistent_store.corrupt_read_models("UPDATE usage_1 SET first_position = first_position") == 1
        persistent_store.corrupt_read_models("INSERT INTO unsorted_usage_1 SELECT * FROM usage_1")
        persistent_store.corrupt_read_models("DELETE FROM usage_1")
        persistent_store.corrupt_read_models("DELETE FROM totals_1 WHERE meter = 3")
        assert any(finding.startswith("usage: meter peaks") for finding in verification_findings(metering))


def test_one_changed_cell_is_detected(persistent_store: PersistentStore) -> None:
    """An increased value, another type, random bytes or NULL in any column is a difference or an error."""
    with persistent_store.metering() as metering:
        configure(metering)
        record_page(metering, 0)
        for table, column, kind in COLUMNS:
            for change, parameters in (
                (INCREASED[kind], OTHER_TYPE[kind], GARBAGE, NULL_VALUE) if table == "usage" else ()
            ):
                statement = f"UPDATE unsorted_usage_1 SET {column} = {change.format(column)} WHERE customer = 1"
                with persistent_store.restore_table("unsorted_usage_1"):
                    try:
                        assert persistent_store.corrupt_read_models(statement, *parameters) == 2
                    except StoreRejected:
                        continue  # the database rejects the value
                    findings = verification_findings(metering)
                    assert any(finding.startswith(("usage: ", "corrupted")) for finding in findings), (column, findings)
        assert metering.verify().is_equal
