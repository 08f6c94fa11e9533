"""What SQL can't compute exactly is rejected, with the field and the reason."""

from collections.abc import Mapping

import pytest
from tallybook.application import InvalidRequest, Metering

from ..notation import Clock, moment
from ..properties.histories import LIFTED
from .comparison import decimal_rows, total_rows
from .engines import SqlEngine, stored_events

NOVEMBER = moment("2026-11-01T00:00"), moment("2026-12-01T00:00")


@pytest.mark.parametrize(
    ("rules", "value", "field"),
    [
        ({"multiplier": "1/9000000001"}, "1", "multiplier"),
        ({"formula": "avg", "multiplier": "1/4500000001"}, "1", "multiplier"),
        ({"rounding": {"mode": "up", "step": "9000000001"}}, "1", "rounding"),
        ({}, "1" * 181, "event_name"),
        ({"filter": {"key": "kind", "equals": "a\0"}}, "1", None),
    ],
)
def test_a_rule_without_an_exact_statement(rules: Mapping[str, object], value: str, field: str | None) -> None:
    """The error names what is too long."""
    with Metering.open("sqlite://", policy=LIFTED, clock=Clock(NOVEMBER[1])) as metering:
        metering.meters.configure("calls", customer_key="customer", **rules)  # pyright: ignore[reportArgumentType]
        for identifier in "ab":
            payload = {"customer": "acme", "value": value, "kind": "a\0"}
            metering.record("calls", payload, identifier=identifier, timestamp=NOVEMBER[0])
        with pytest.raises(InvalidRequest) as caught:
            metering.sql.totals("calls", *NOVEMBER, dialect="sqlite")
        assert caught.value.code == "parameter_invalid"
        assert caught.value.field == field


@pytest.mark.parametrize(
    "rules",
    [
        {"multiplier": "1/8999999999"},
        {"formula": "avg", "multiplier": "1/4499999999"},
        {"rounding": {"mode": "up", "step": "8999999999"}},
        {"multiplier": f"{'9' * 30}/{2**40}", "rounding": {"mode": "half_up", "step": f"0.{'0' * 28}2"}},
    ],
)
def test_the_largest_numbers_that_fit(engine: SqlEngine, rules: Mapping[str, object]) -> None:
    """A denominator and a step may have more digits if they have factors of 10."""
    with Metering.open("sqlite://", policy=LIFTED, clock=Clock(NOVEMBER[1])) as metering:
        metering.meters.configure("calls", customer_key="customer", **rules)  # pyright: ignore[reportArgumentType]
        for identifier in "ab":
            payload = {"customer": "acme", "value": "12345.678"}
            metering.record("calls", payload, identifier=identifier, timestamp=NOVEMBER[0])
        engine.load(stored_events(metering))
        document = metering.sql.totals("calls", *NOVEMBER, dialect=engine.dialect)
        assert decimal_rows(engine.run(document.statement)) == total_rows(metering.totals("calls", *NOVEMBER))
