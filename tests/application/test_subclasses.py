"""Values of subclasses are taken wherever their base is, and stored and returned as plain values."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tallybook.application import AcceptancePolicy, BillingCycle, Metering
from tallybook.domain.errors import TallybookError
from tallybook.domain.meter_event_input import MeterEventInput
from tallybook.domain.plain_types import plain_datetime, plain_decimal, plain_int, plain_text

from tests.subclasses import HostileDatetime, HostileDecimal, HostileInt, HostileStr, HostileTimedelta

START, END = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
NOW = datetime(2026, 4, 2, tzinfo=UTC)


class PlainTypes:
    """Creates plain values."""

    text: Callable[[str], Any] = str
    number: Callable[[int], Any] = int
    decimal: Callable[[str], Any] = Decimal
    duration: Callable[..., Any] = timedelta

    @staticmethod
    def at(moment: datetime) -> Any:
        return moment


class HostileTypes(PlainTypes):
    """Creates values of subclasses whose methods raise."""

    text, number, decimal, duration = HostileStr, HostileInt, HostileDecimal, HostileTimedelta

    @staticmethod
    def at(moment: datetime) -> Any:
        return HostileDatetime(*moment.timetuple()[:6], moment.microsecond, tzinfo=moment.tzinfo)


def open_ledger(types: type[PlainTypes]) -> Metering:
    """Open a ledger in memory whose policy and clock have values of these types."""
    policy = AcceptancePolicy(
        max_age=types.duration(days=60), cancel_window=types.duration(days=2), max_digits=types.number(20)
    )
    return Metering.open("sqlite://", policy=policy, clock=lambda: types.at(NOW))


def use_everything(metering: Metering, types: type[PlainTypes]) -> list[Any]:
    """Call the whole API with values of these types, and return the results."""
    text, number, at = types.text, types.number, types.at
    meter, customer = text("tokens"), text("acme")
    payload = {text("customer"): customer, text("amount"): types.decimal("1.50"), text("region"): text("eu")}
    event: dict[str, Any] = {"event_name": meter, "payload": payload, "timestamp": at(START)}
    other = {text("customer"): customer, text("amount"): number(7), text("region"): text("é")}
    metering.meters.configure(
        meter, display_name=text("Tokens"), formula=text("sum"), customer_key=text("customer"),
        value_key=text("amount"), dimension_keys=[text("region")],
    )  # fmt: skip
    results: list[Any] = [
        metering.record(meter, payload, identifier=text("a"), timestamp=at(START)),
        metering.record(meter, payload, identifier=text("a"), timestamp=at(START)),
        metering.record_many(
            [
                {**event, "identifier": text("b")},
                {text(key): value for key, value in {**event, "identifier": text("c")}.items()},
                SimpleNamespace(**event, identifier=text("d")),
                MeterEventInput(meter, other, text("e"), at(START)),
                {**event, "timestamp": text("2026-03-01T02:00:00+02:00"), "identifier": text("f")},
            ]
        ),
        metering.cancel(meter, text("b"), reason=text("wrong"), by=text("me")),
        metering.total(meter, customer, at(START), at(END), as_of=number(5)),
        metering.total(meter, customer, at(START), at(END), as_of=at(NOW)),
        metering.totals(meter, at(START), at(END)),
        metering.replay_totals(meter, at(START), at(END)),
        metering.summaries(meter, customer, at(START), at(END), window=text("day"), timezone=text("Europe/Berlin")),
        metering.events(
            meter, customer=customer, start=at(START), end=at(END), limit=number(2), starting_after=text("a")
        ),
        metering.event(text("a"), as_of=at(NOW)),
        metering.explain(meter, customer, at(START), at(END)),
        metering.periods.close(meter, customer, at(START), at(END)),
        metering.periods.list(meter, customer, start=at(START), end=at(END)),
        metering.periods.adjustments(meter, customer, start=at(START), end=at(END)),
        metering.periods.reopen(meter, customer, at(START), at(END), reason=text("redo"), by=text("me")),
        metering.meters.rename(meter, text("Used tokens")),
        metering.meters.get(meter, as_of=number(1)),
        metering.meters.changes(after=number(0), limit=number(10)),
        metering.rules.change(meter, {text("formula"): text("count")}, reason=text("new"), by=text("me")),
        metering.meters.deactivate(meter),
        list(BillingCycle(text("month"), text("Europe/Berlin"), at(START)).periods(at(START), at(END))),
    ]
    generation = metering.generations.build_candidate(meter, {text("formula"): text("last")})
    results += [
        metering.generations.diff(number(generation.number), window=text("month"), timezone=text("UTC")),
        metering.generations.promote(number(generation.number), reason=text("last"), by=text("me")),
        metering.generations.list(),
        metering.rules.change(meter, {text("formula"): text("sum")}, reason=text("back")),
        metering.generations.drop(number(generation.number)),
    ]
    return results


def stored_rows(metering: Metering) -> list[Any]:
    """Return the stored events without ids of access keys."""
    ledger = metering.checkpoints.ledger
    return list(ledger.raw_rows(1, ledger.head(), 1_000))


@pytest.fixture(params=[PlainTypes, HostileTypes])
def types(request: pytest.FixtureRequest) -> type[PlainTypes]:
    """Plain types, and subclasses of them."""
    types: type[PlainTypes] = request.param
    return types


@pytest.fixture
def metering(types: type[PlainTypes]) -> Iterator[Metering]:
    """A ledger."""
    with open_ledger(types) as metering:
        yield metering


def test_subclasses_store_and_return_the_same_as_plain_values() -> None:
    """To the byte, whatever the methods of the subclass do."""
    with open_ledger(PlainTypes) as plain, open_ledger(HostileTypes) as hostile:
        expected, results = use_everything(plain, PlainTypes), use_everything(hostile, HostileTypes)
        assert [repr(result) for result in results] == [repr(result) for result in expected]
        assert stored_rows(hostile) == stored_rows(plain)


def test_access_keys_have_plain_names(metering: Metering, types: type[PlainTypes]) -> None:
    """And are found and revoked by an id of a subclass."""
    created = metering.access_keys.create([types.text("read")], types.text("reports"), by=types.text("me"))
    view = metering.access_keys.authenticate(types.text(created.key))
    assert (type(view.name), view.name) == (str, "reports")
    assert metering.access_keys.get(types.text(view.id)).id == view.id
    assert metering.access_keys.revoke(types.text(view.id), reason=types.text("gone")).reason == "gone"
    with pytest.raises(TallybookError):
        metering.access_keys.get(types.text("sk_live_nothing"))


def test_an_error_shows_a_value_whose_class_has_no_repr(types: type[PlainTypes], metering: Metering) -> None:
    """It is a TallybookError like any other."""
    with pytest.raises(TallybookError):
        metering.total("tokens", types.text("a" * 6_000), START, END)
    with pytest.raises(TallybookError):
        metering.total("tokens", None, types.at(END), types.at(START))
    with pytest.raises(TallybookError):
        metering.record("tokens", {"customer": types.text("a")}, timestamp=types.at(START).replace(tzinfo=None)
                        if types is PlainTypes else HostileDatetime(2026, 3, 1))  # fmt: skip


@pytest.mark.parametrize(
    ("value", "recorded"), [(np.int64(25), "25"), (np.str_("25"), "25"), (HostileDecimal("2.50"), "2.50")]
)
def test_a_number_of_a_library_is_recorded_as_text(value: Any, recorded: str) -> None:
    """Exactly."""
    with open_ledger(PlainTypes) as metering:
        metering.meters.configure("tokens", customer_key="customer")
        metering.record("tokens", {"customer": "acme", "value": value}, identifier="a", timestamp=START)
        assert metering.event("a").payload["value"] == recorded


@pytest.mark.parametrize(
    "value",
    [True, np.True_, 1.5, np.float64(1), float("nan"), pytest.param(10**5_000, id="long"), None, b"1", object()],
)
def test_other_values_are_rejected(value: Any) -> None:
    """A bool and a float are no exact numbers; Python writes no int of 5,000 digits."""
    with open_ledger(PlainTypes) as metering:
        metering.meters.configure("tokens", customer_key="customer")
        receipts = metering.record_many([{"event_name": "tokens", "payload": {"customer": "a", "value": value}}])
        assert receipts[0].error is not None
        assert receipts[0].error.field == "payload.value"


def test_two_keys_with_the_same_text_are_rejected() -> None:
    """A subclass with another hash can put both into a dict."""

    class Key(str):
        __slots__ = ()

        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            return self is other

    with open_ledger(PlainTypes) as metering:
        metering.meters.configure("tokens", customer_key="customer")
        payload = {"customer": "a", Key("customer"): "b", "value": "1"}
        (receipt,) = metering.record_many([{"event_name": "tokens", "payload": payload}])
        assert receipt.error is not None
        assert receipt.error.code == "payload_invalid"


def test_a_policy_accepts_no_bool() -> None:
    """`max_digits=True` is a mistake."""
    with pytest.raises(ValueError, match="a bool is not a number"):
        AcceptancePolicy(max_digits=True)


def test_what_is_plain_stays_what_it_is() -> None:
    """No value is copied that needs no copy."""
    text, number, decimal = "a" * 1_000, 10**30, Decimal("1.5")
    assert plain_text(text) is text
    assert plain_int(number) is number
    assert plain_decimal(decimal) is decimal
    assert plain_datetime(START) is START
