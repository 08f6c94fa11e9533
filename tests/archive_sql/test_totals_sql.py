"""SQL on other engines has the ledger's own results, for random histories with every rule of counting."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import pytest
from hypothesis import given, settings
from tallybook.application import Metering
from tallybook.application.archive.sql.dialects import DialectName

from ..notation import Clock, moment
from ..properties.histories import LIFTED
from ..sampling import examples
from .comparison import Rows, compare, decimal_rows, total_rows
from .engines import SqlEngine, stored_events
from .histories import HISTORIES, Query, Rules, Step, ledger_of
from .planted_faults import FAULTS, finds_fault

START, END = moment("2026-11-01T00:00"), moment("2026-12-01T00:00")


@settings(max_examples=examples(200))
@given(history=HISTORIES)
def test_sql_has_the_results_of_the_ledger(
    engines: Mapping[DialectName, SqlEngine], history: tuple[Rules, Sequence[Step], Sequence[Query]]
) -> None:
    """Totals by customer and of all, digests, and closed periods, as of several positions."""
    rules, steps, queries = history
    with ledger_of(rules, steps) as metering:
        compare(metering, queries, list(engines.values()))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_on_each_engine(engine: SqlEngine, fault: str) -> None:
    """The comparison of the random histories fails if a statement has one of these faults."""
    assert finds_fault(engine, fault)


def _at(time: str) -> datetime:
    return moment(f"2026-11-01T{time}")


LINE_BREAKS = ("\n", "\r\n", "a\n  b\r", "\N{LINE SEPARATOR}", "\x0b\x85")


@pytest.mark.parametrize("text", LINE_BREAKS)
def test_texts_with_line_breaks(engine: SqlEngine, text: str) -> None:
    """In an event name, a payload key, a customer, a dimension value and a filter: a statement is indented by lines."""
    name = f"calls{text}"
    with Metering.open("sqlite://", policy=LIFTED, clock=Clock(END)) as metering:
        metering.meters.configure(
            name, formula="count", customer_key=f"customer{text}", dimension_keys=[f"region{text}"],
            filter={"key": f"kind{text}", "equals": text},
        )  # fmt: skip
        for region in (text, "eu"):
            payload = {f"customer{text}": f"acme{text}", f"region{text}": region, f"kind{text}": text}
            metering.record(name, payload, timestamp=START)
        engine.load(stored_events(metering))
        where = {f"region{text}": text}
        document = metering.sql.total(name, f"acme{text}", START, END, dialect=engine.dialect, where=where)
        rows = decimal_rows(engine.run(document.statement))
        assert [row[:2] for row in rows] == [(1, 1)]
        document = metering.sql.totals(name, START, END, dialect=engine.dialect)
        assert decimal_rows(engine.run(document.statement)) == total_rows(metering.totals(name, START, END))


def test_values_of_many_digits(engine: SqlEngine) -> None:
    """A sum, an average and a rounded quantity of values with 180 digits are exact."""
    values = ["9" * 120 + "." + "9" * 60, "-" + "1" * 120, "0." + "0" * 59 + "7"]
    for rules in (
        {"formula": "sum"},
        {"formula": "avg", "multiplier": "7/3"},
        {"formula": "max", "multiplier": "123456789.123456789", "rounding": {"mode": "half_up", "step": "0.03"}},
    ):
        check(engine, rules, [{"customer": "acme", "value": value} for value in values])


def test_texts_of_other_alphabets_are_no_numbers(engine: SqlEngine) -> None:
    """A filter compares plain decimal text only, as the ledger does."""
    texts = [
        "5",
        "\N{ARABIC-INDIC DIGIT FIVE}",
        "\N{FULLWIDTH DIGIT ONE}",
        "5\n",
        " 5",
        "5 ",
        "+5",
        "5.",
        ".5",
        "-",
        "",
        "5e1",
        "0x5",
        "-5",
        "5.0.0",
        "5-",
        "--5",
        "5%",
    ]
    payloads = [{"customer": text or "none", "size": text, "value": "1"} for text in texts]
    check(engine, {"filter": {"key": "size", "at_least": "-100"}}, payloads)
    check(engine, {"filter": {"not": {"key": "size", "at_least": "-100"}}}, payloads)


def test_unique_values_are_compared_by_character(engine: SqlEngine) -> None:
    """Case, accents, their normal form and spaces make different texts."""
    texts = ["a", "A", "a ", "á", "a\u0301", "", "\t", "5", "5.0", "\U0001f600", "a\\", "a'"]
    check(engine, {"formula": "unique_count"}, [{"customer": "acme", "value": text} for text in (*texts, *texts)])


def test_times_in_all_years(engine: SqlEngine) -> None:
    """Windows before 1970 and microseconds are exact."""
    with Metering.open("sqlite://", policy=LIFTED, clock=Clock(END)) as metering:
        metering.meters.configure("calls", formula="last", event_time_window="hour", customer_key="customer")
        times = ["0001-01-01T00:00", "1582-10-10T12:00", "1969-12-31T23:59:59.999999", "9999-12-31T23:59:59.999999"]
        for number, time in enumerate(times):
            payload = {"customer": f"c{number}", "value": "1"}
            metering.record("calls", payload, identifier=time, timestamp=moment(time))
        engine.load(stored_events(metering))
        bounds = moment("0001-01-01T00:00"), moment("9999-12-31T23:59:59.999999")
        document = metering.sql.totals("calls", *bounds, dialect=engine.dialect)
        rows = decimal_rows(engine.run(document.statement))
        assert rows == total_rows(metering.totals("calls", *bounds))
        assert len(rows) == len(times)


def test_usage_that_a_statement_is_not_made_for_has_no_result(engine: SqlEngine) -> None:
    """If another relation has longer values or more events, the numbers are NULL, and not wrong."""
    narrow, wide = ([{"customer": "acme", "value": value} for value in values] for values in (["1"], ["12", "3"]))
    document, _ = totals_of(engine, {}, narrow)
    totals_of(engine, {}, wide)
    assert engine.run(document.replace("position <= 2", "position <= 9")) == [("acme", *[None] * 7)]


def test_spark_calculates_in_one_query() -> None:
    """Its optimizer takes half a minute for fifty queries, one for each step, and 1 GB isn't enough for a hundred."""
    rules: Rules = {"formula": "avg", "multiplier": "7/12", "rounding": {"mode": "half_up", "step": "3"}}
    with Metering.open("sqlite://", policy=LIFTED, clock=Clock(END)) as metering:
        metering.meters.configure("calls", customer_key="customer", **rules)
        spark, sqlite = (metering.sql.totals("calls", START, END, dialect=name).text for name in ("spark", "sqlite"))
    assert spark.count("\nFROM aggregates") + spark.count("\n    FROM aggregates") == 1
    assert spark.count(" AS (") < 10
    assert sqlite.count(" AS MATERIALIZED (") > 30


@pytest.mark.parametrize("name", [DialectName.SQLITE, DialectName.POSTGRES])
def test_a_payload_with_nul_is_an_error(engines: Mapping[DialectName, SqlEngine], name: DialectName) -> None:
    """Texts in these databases end at U+0000, or can't have it."""
    engine = engines[name]
    document, _ = totals_of(engine, {}, [{"customer": "acme", "value": "1", "note": "\\u0000"}])
    assert engine.run(document)[0][0] == "acme"
    document, _ = totals_of(engine, {}, [{"customer": "acme", "value": "1", "note": "a\0b"}])
    with pytest.raises(Exception, match=r"(?i)json"):
        engine.run(document)


def test_nul_in_payloads_on_duckdb(engines: Mapping[DialectName, SqlEngine]) -> None:
    """Unique texts may differ after U+0000, and a customer can't be named with it."""
    payloads = [{"customer": "acme", "value": text} for text in ("a\0", "a\0b", "a")]
    check(engines[DialectName.DUCKDB], {"formula": "unique_count"}, payloads)


def check(engine: SqlEngine, rules: Mapping[str, object], payloads: Sequence[Mapping[str, str]]) -> None:
    """Compare the totals of some meter events on an engine with those of the ledger."""
    statement, expected = totals_of(engine, rules, payloads)
    assert decimal_rows(engine.run(statement)) == expected
    assert expected


def totals_of(
    engine: SqlEngine, rules: Mapping[str, object], payloads: Sequence[Mapping[str, str]]
) -> tuple[str, Rows]:
    """Load a ledger with some meter events; return the statement of its totals and the ledger's rows."""
    with Metering.open("sqlite://", policy=LIFTED, clock=Clock(END)) as metering:
        metering.meters.configure("calls", **{"customer_key": "customer", **rules})  # pyright: ignore[reportArgumentType]
        for number, payload in enumerate(payloads):
            metering.record("calls", payload, identifier=str(number), timestamp=_at("10:00"))
        engine.load(stored_events(metering))
        document = metering.sql.totals("calls", START, END, dialect=engine.dialect)
        return document.statement, total_rows(metering.totals("calls", START, END))
