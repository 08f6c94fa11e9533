"""PostgreSQL finds the rows of read models by index, with any statistics of the tables."""

from contextlib import closing

import pytest
from tallybook.application import Metering
from tallybook.application.storage.postgres.ledger_schema import list_kinds
from tallybook.application.storage.postgres.schema import list_tables
from tallybook.application.storage.postgres.statements import PostgresReadModels
from tallybook.application.storage.sql_reader import SqlReadModelReader
from tallybook.domain.timestamps import to_microseconds
from tallybook.projections.buckets import DAY_SECONDS, bucket_end, bucket_start

from .histories import START, configure
from .persistent_stores import PostgresSchema
from .test_postgres_sessions import open_read_models

FEW, MANY = 2, 300
EXECUTIONS_BEFORE_GENERIC_PLAN = 15
DAY = bucket_start(to_microseconds(START), DAY_SECONDS)
EXPECTED_KEYS = [(1, DAY, f'["region-{number}"]') for number in (0, 1)]
MISSING = 1, DAY, '["elsewhere"]'


def record_regions(metering: Metering, regions: range) -> None:
    """Record one meter event in each region, all of one customer on one day."""
    metering.record_many(
        {"event_name": "jobs", "payload": {"customer": "acme", "value": "1", "region": f"region-{region}"},
         "timestamp": START}
        for region in regions
    )  # fmt: skip
    metering.catch_up()


def run_lookups(rows: PostgresReadModels) -> None:
    """Run the statements of a page with two buckets, and of a query of these buckets."""
    meter = rows.meters()["jobs"].folded[0].meter_id
    assert SqlReadModelReader.customer_id(rows, "acme") == 1  # not from a cache
    found = rows.buckets_of(meter, DAY_SECONDS, [*EXPECTED_KEYS, MISSING])
    assert {bucket.key for bucket in found} == set(EXPECTED_KEYS)
    assert len(list(rows.select_last_short_blocks(meter, [*EXPECTED_KEYS, MISSING]))) == len(EXPECTED_KEYS)
    runs = [
        run
        for run in rows.blocks_between(meter, None, DAY_SECONDS, DAY, bucket_end(DAY, DAY_SECONDS))
        if run.key in EXPECTED_KEYS
    ]
    assert len(list(rows.usage_in(meter, runs))) == len(EXPECTED_KEYS)
    assert len(list(rows.blocks_of(meter, [*EXPECTED_KEYS, MISSING]))) == len(EXPECTED_KEYS)
    assert (
        list(rows.buckets_in(meter, DAY_SECONDS, [*EXPECTED_KEYS, MISSING])) == []
    )  # a meter with a day window has no hour buckets


def read_counts(rows: PostgresReadModels) -> list[int]:
    """Return the numbers of sequential scans, and of rows found by index, of this transaction for each table."""
    scans, *row_counts = zip(
        *rows.select(
            "SELECT seq_scan, idx_tup_fetch FROM pg_stat_xact_all_tables"
            " WHERE relid IN (?::text::regclass, ?::text::regclass, ?::text::regclass) ORDER BY relname",
            (rows.customers_table, rows.totals_table, rows.usage_table),
        ),
        strict=True,
    )
    return [sum(scans), *row_counts[0]]


@pytest.mark.parametrize("statistics", ["nothing", "few", "all"])
def test_rows_are_found_by_index_with_any_statistics(postgres_store: PostgresSchema, statistics: str) -> None:
    """A plan that was made for few rows is still used for many rows, and uses indexes."""
    with postgres_store.metering() as metering, closing(open_read_models(postgres_store)) as views:
        configure(metering)
        record_regions(metering, range(FEW))
        with views.read_session() as rows:
            tables = rows.customers_table, rows.totals_table, rows.usage_table
        analyze = "ANALYZE " + ", ".join(tables)
        if statistics == "few":
            views.datastore.run_in_transaction("write", lambda connection: connection.execute(analyze.encode()))
        for _ in range(EXECUTIONS_BEFORE_GENERIC_PLAN):
            with views.write_session() as rows:
                run_lookups(rows)
        record_regions(metering, range(FEW, MANY))
        if statistics == "all":
            views.datastore.run_in_transaction("write", lambda connection: connection.execute(analyze.encode()))
        with views.write_session() as rows:
            before = read_counts(rows)
            run_lookups(rows)
            read = [after - earlier for after, earlier in zip(read_counts(rows), before, strict=True)]
        # The last query is of all customers, so it reads the usage blocks of all buckets of the day.
        expected = len(EXPECTED_KEYS)
        assert read == [0, 1, expected + MANY, expected + MANY + expected + expected]


CREATE_LEDGERS = f"""DO $$ BEGIN
    FOR number IN 1..{MANY} LOOP
        EXECUTE format('CREATE SCHEMA %I', 'other_' || number);
        EXECUTE format('CREATE TABLE %I.ledger ()', 'other_' || number);
        EXECUTE format('COMMENT ON TABLE %I.ledger IS %L', 'other_' || number, 'Tallybook');
    END LOOP;
END $$"""
COUNT_ROWS_READ = (
    "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_sys_tables"
    " WHERE relname = ANY('{pg_class,pg_depend,pg_description}')"
)


def test_opening_a_ledger_does_not_read_about_other_schemas(postgres_store: PostgresSchema) -> None:
    """A database may have thousands of ledgers, and each process that opens one lists its tables."""
    with postgres_store.metering() as metering:
        configure(metering)
        metering.catch_up()
    ledger, read_models = postgres_store.schema, postgres_store.read_models_schema
    rows_read: list[int] = []
    with (
        closing(open_read_models(postgres_store)) as views,
        closing(postgres_store.database.connect()) as connection,
        connection.transaction(force_rollback=True),
    ):
        connection.execute(CREATE_LEDGERS.encode())
        for _ in range(3):
            assert "tracking" in list_tables(connection, views.datastore)
            assert list_kinds(connection, [ledger, read_models, ledger]) == {
                (ledger, "ledger"),
                (read_models, "read_models"),
            }
            row = connection.execute(COUNT_ROWS_READ.encode()).fetchone()
            assert row is not None
            rows_read.append(int(row[0]))
    assert rows_read[2] - rows_read[1] < MANY
