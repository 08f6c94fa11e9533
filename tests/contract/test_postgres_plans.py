"""How PostgreSQL finds the rows of read models: by their keys, whatever it believes that the tables hold."""

from contextlib import closing

import pytest
from tallybook.application import Metering
from tallybook.application.stores.postgres_rows import PostgresRows
from tallybook.domain.instants import microseconds
from tallybook.projections.buckets import DAY_SECONDS, bucket_end, bucket_start

from .histories import START, configure
from .kept_stores import PostgresSchema
from .test_postgres_sessions import views_of

FEW, MANY = 2, 300
UNTIL_A_PLAN_IS_KEPT = 15
DAY = bucket_start(microseconds(START), DAY_SECONDS)
WANTED = [(1, DAY, f'["region-{number}"]') for number in (0, 1)]
MISSING = 1, DAY, '["elsewhere"]'


def record_regions(metering: Metering, regions: range) -> None:
    """One use in each region, all by one customer on one day."""
    metering.record_many(
        {"event_name": "jobs", "payload": {"customer": "acme", "value": "1", "region": f"region-{region}"},
         "timestamp": START}
        for region in regions
    )  # fmt: skip
    metering.catch_up()


def look_up(rows: PostgresRows) -> None:
    """What a page of two buckets reads, and a question about them."""
    meter = rows.meters()["jobs"].number
    assert rows.customer_number("acme") == 1
    assert rows.kept_buckets(meter, DAY_SECONDS, [*WANTED, MISSING]).keys() == set(WANTED)
    assert len(list(rows.select_short(meter, [*WANTED, MISSING]))) == len(WANTED)
    runs = [run for run in rows.runs(meter, None, DAY_SECONDS, DAY, bucket_end(DAY, DAY_SECONDS)) if run.key in WANTED]
    assert len(list(rows.usages_of(meter, runs))) == len(WANTED)


def read_by(rows: PostgresRows) -> list[int]:
    """How often this connection read a whole table, and how many rows of each it found by an index; of late."""
    scans, *found = zip(
        *rows.select(
            "SELECT seq_scan, idx_tup_fetch FROM pg_stat_xact_all_tables"
            " WHERE relid IN (?::text::regclass, ?::text::regclass, ?::text::regclass) ORDER BY relname",
            (rows.customers_table, rows.totals_table, rows.usage_table),
        ),
        strict=True,
    )
    return [sum(scans), *found[0]]


@pytest.mark.parametrize("known", ["nothing", "few", "all"])
def test_rows_are_found_by_their_keys_whatever_statistics_there_are(postgres_store: PostgresSchema, known: str) -> None:
    """A plan that was made for few rows is kept when there are many; and rows of a day and customer may be many."""
    with postgres_store.metering() as metering, closing(views_of(postgres_store)) as views:
        configure(metering)
        record_regions(metering, range(FEW))
        with views.reading() as rows:
            tables = rows.customers_table, rows.totals_table, rows.usage_table
        analyze = "ANALYZE " + ", ".join(tables)
        if known == "few":
            views.store.attempt("write", lambda connection: connection.execute(analyze.encode()))
        for _ in range(UNTIL_A_PLAN_IS_KEPT):
            with views.writing() as rows:
                look_up(rows)
        record_regions(metering, range(FEW, MANY))
        if known == "all":
            views.store.attempt("write", lambda connection: connection.execute(analyze.encode()))
        with views.writing() as rows:
            before = read_by(rows)
            look_up(rows)
            read = [after - earlier for after, earlier in zip(read_by(rows), before, strict=True)]
        wanted = len(WANTED)  # and all buckets of the day lead to all runs, where those of all customers are asked for
        assert read == [0, 1, wanted + MANY, wanted + MANY + wanted]
