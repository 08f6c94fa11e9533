"""Lists of totals and meter events: equal to lists, and read as tables by engines for data frames."""

import copy
import pickle
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from importlib import import_module
from typing import Any

import duckdb
import polars as pl
import pytest
from tallybook.application.arrow_columns import INSTALL_HINT
from tallybook.domain.errors import InvalidParameter

from tallybook import AcceptancePolicy, MeterEventList, Metering, Total, TotalList

pa: Any = import_module("pyarrow")
pd: Any = import_module("pandas")  # neither has type hints

START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


def total(value: str, customer: str = "acme", groups: Sequence[Total] = (), **dimensions: str | None) -> Total:
    """Return a total of one value."""
    number = Decimal(value)
    return Total(number, number, 1, None, number, customer, START, END, dimensions=dimensions, groups=tuple(groups))


def test_a_list_of_results_is_used_like_a_list() -> None:
    """Comparison, indexes, slices, iteration and representation are those of a list; it can't be changed."""
    one, two = total("1"), total("2")
    totals = TotalList([one, two])
    assert totals == [one, two] == totals
    assert [one] != totals != [two, one]
    assert totals == TotalList([one, two]) != TotalList([one])
    assert totals != (one, two)
    assert repr(totals) == repr([one, two])
    assert (totals[0], totals[-1], len(totals), two in totals) == (one, two, 2, True)
    assert totals[1:] == [two]
    assert isinstance(totals[1:], TotalList)
    assert list(reversed(totals)) == [two, one]
    assert totals + totals == [one, two, one, two] == [one, two, *totals]
    assert (totals.index(two), totals.count(one)) == (1, 1)
    assert not TotalList([])
    assert copy.deepcopy(totals) == pickle.loads(pickle.dumps(totals)) == totals
    with pytest.raises(TypeError, match="does not support item assignment"):
        totals[0] = two  # pyright: ignore[reportIndexIssue]
    with pytest.raises(TypeError, match="unhashable"):
        hash(totals)


@pytest.mark.parametrize(
    ("values", "expected_type"),
    [
        (["0"], pa.decimal128(38, 0)),
        (["-0.125", "3"], pa.decimal128(38, 3)),
        (["1E+3", "0.01"], pa.decimal128(38, 2)),
        (["9" * 38], pa.decimal128(38, 0)),
        (["9" * 30, "0.00000001"], pa.decimal128(38, 8)),
        (["9" * 30, "0.000000001"], pa.decimal256(76, 9)),
        (["9" * 76], pa.decimal256(76, 0)),
        (["9" * 76, "0.1"], pa.string()),
        (["9" * 400], pa.string()),
    ],
)
def test_numbers_are_never_rounded(values: list[str], expected_type: Any) -> None:
    """A column is the first of decimal128, decimal256 and text that holds the digits of all its values."""
    table = pa.table(TotalList(map(total, values)))
    assert table.schema.field("value").type == expected_type
    assert [Decimal(value) for value in table["value"].to_pylist()] == [Decimal(value) for value in values]


def test_groups_are_the_rows_of_totals_that_have_them() -> None:
    """The totals above them would count their usage twice. An empty list has the same columns."""
    groups = total("1", region="eu"), total("2", region=None)
    table = pa.table(TotalList([total("3", groups=groups)], ["region"]))
    assert table.select(["customer", "dimension_region", "value"]).to_pylist() == [
        {"customer": "acme", "dimension_region": "eu", "value": Decimal(1)},
        {"customer": "acme", "dimension_region": None, "value": Decimal(2)},
    ]
    assert pa.table(TotalList([], ["region"])).schema.names == table.schema.names


def test_times_are_in_utc() -> None:
    """Bounds are stored as the caller passed them, with any timezone."""
    eastern = timezone(timedelta(hours=-5))
    one = Total(Decimal(1), Decimal(1), 1, None, Decimal(1), None, START.astimezone(eastern), END)
    (row,) = pa.table(TotalList([one])).to_pylist()
    assert (row["start"], row["customer"], row["last"]) == (START, None, None)


def test_engines_read_the_results_of_queries() -> None:
    """polars, pandas, DuckDB and pyarrow read totals, summaries and events, also of groups and unique texts."""
    with Metering.open("sqlite://", policy=AcceptancePolicy(max_age=None)) as metering:
        metering.meters.configure(
            "tokens", customer_key="customer", value_key="tokens", optional_dimension_keys=["model"]
        )
        for number, payload in enumerate([{"model": "small"}, {}], 1):
            event = {"customer": "acme", "tokens": f"{number}.1", **payload}
            metering.record("tokens", event, timestamp=START, identifier=f"e-{number}")
        metering.cancel("tokens", "e-1", reason="wrong", by="ops")
        results = (
            metering.totals("tokens", START, END, group_by=["model"]),
            metering.summaries("tokens", "acme", START, END, window="hour", group_by=["model"]),
            metering.replay_totals("tokens", START, END),
        )
        events, no_events = metering.events("tokens"), metering.events("tokens", customer="nobody")
    engine: Any = duckdb
    for totals in results:
        assert list(pl.DataFrame(totals)["value"]) == [Decimal("2.1")]
        assert pd.DataFrame.from_arrow(totals)["value"].to_list() == [Decimal("2.1")]
        assert engine.sql('SELECT value, "end" > start FROM totals').fetchall() == [(Decimal("2.1"), True)]
    rows: list[dict[str, Any]] = pa.table(events).to_pylist(maps_as_pydicts="strict")
    for row, event in zip(rows, events, strict=True):
        assert row.pop("dimension_model") == event.dimensions["model"]
        assert row == {name: getattr(event, name) for name in row}
    assert isinstance(no_events, MeterEventList)
    assert pa.table(no_events).schema.names == list(pa.table(events).schema.names)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra. Without it, everything else works."""
    monkeypatch.setitem(__import__("sys").modules, "tallybook.application.archive.arrow", None)
    with pytest.raises(InvalidParameter, match=r"tallybook\[arrow\]") as caught:
        TotalList([total("1")]).__arrow_c_stream__()
    assert caught.value.message == INSTALL_HINT


def test_a_list_of_results_is_no_sequence_of_rows() -> None:
    """polars takes an instance of Sequence or of list for rows, and doesn't look for an Arrow stream."""
    assert isinstance(TotalList([]), Iterable)
    assert not isinstance(TotalList([]), Sequence | list)
