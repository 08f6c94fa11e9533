"""The contract of derived meters: each counts all events of its source, whatever other clients do meanwhile."""

from collections.abc import Callable
from typing import Any

import pytest
from tallybook.application import Metering, Receipt
from tallybook.application.ledger.exclusive import ExclusiveLedger
from tallybook.domain.errors import IncompatibleRules, MeterAlreadyExists, MissingValue, RulesConflict

from .histories import END, START, record_history
from .stores import Store


def record(metering: Metering, **payload: str) -> Receipt:
    """Record an event of the meter `requests`."""
    return metering.record("requests", {"customer": "acme", **payload}, timestamp=START)


def configure_source(metering: Metering) -> None:
    """Configure the meter `requests`, and record an event of 10 bytes."""
    metering.meters.configure("requests", formula="count", customer_key="customer")
    record(metering, size="10")


def derive(metering: Metering, event_name: str = "bytes", **arguments: Any) -> None:
    """Configure a meter that sums the sizes of requests."""
    arguments = {"value_key": "size", "customer_key": "customer", "source": "requests", **arguments}
    metering.meters.configure(event_name, **arguments)


def total(metering: Metering, event_name: str = "bytes") -> int:
    """Return the total of a meter."""
    return int(metering.total(event_name, "acme", START, END).value)


def run_before(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, action: Callable[[], object]) -> None:
    """Run an action of another client once, before a method of an object is called."""
    method = getattr(owner, name)

    def run(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(owner, name, method)
        action()
        return method(*arguments, **options)

    monkeypatch.setattr(owner, name, run)


def test_derived_meters_count_a_history_with_every_kind_of_event(store: Store) -> None:
    """The events before and after their configuration, with windows, dimensions, filters and cancellations."""
    with store.metering() as metering:
        record_history(metering, 60)
        derived: dict[str, dict[str, Any]] = {
            "largest": {"source": "tokens", "formula": "max", "event_time_window": "day"},
            "regions": {"source": "tokens", "formula": "unique_count", "value_key": "region"},
            "by_region": {"source": "seats", "dimension_keys": ["region"]},
            "in_eu": {"source": "jobs", "filter": {"key": "region", "equals": "eu"}, "event_time_window": "hour"},
        }
        for event_name, arguments in derived.items():
            metering.meters.configure(event_name, customer_key="customer", **arguments)
        for number in range(20):
            payload = {"customer": "acme", "value": str(number), "region": "us" if number % 3 else "eu"}
            for event_name in ("tokens", "seats", "jobs"):
                metering.record(event_name, payload, identifier=f"{event_name}-{number}", timestamp=START)
        metering.cancel("tokens", "tokens-19")
        for event_name in derived:
            totals = metering.totals(event_name, START, END)
            assert totals == metering.replay_totals(event_name, START, END)
            explained = metering.explain(event_name, None, START, END).total
            assert explained.count == sum(total.count for total in totals)
        assert metering.verify().is_equal
        expected = {event_name: metering.totals(event_name, START, END) for event_name in derived}
        store.reset_read_models()
        assert {event_name: metering.totals(event_name, START, END) for event_name in derived} == expected
        assert metering.verify().is_equal


def test_an_event_is_checked_again_if_a_meter_was_derived_meanwhile(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was accepted for the source alone; the derived meter of another client rejects it before it is stored."""
    with store.metering() as metering, store.metering() as other:
        configure_source(metering)
        run_before(monkeypatch, metering._ledger, "append_meter_events", lambda: derive(other))  # pyright: ignore
        with pytest.raises(MissingValue, match="derived meter 'bytes'"):
            record(metering)
        assert (total(metering), total(metering, "requests")) == (10, 1)
        head = metering.catch_up()
        derive(metering)
        assert metering.catch_up() == head


def test_an_event_is_checked_again_if_a_derived_meter_was_changed_meanwhile(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rules that another client gave the derived meter apply."""
    with store.metering() as metering, store.metering() as other:
        configure_source(metering)
        derive(metering, filter={"key": "size", "exists": True})
        run_before(
            monkeypatch,
            metering._ledger,  # pyright: ignore
            "append_meter_events",
            lambda: other.rules.change("bytes", {"filter": None}, reason="all requests have a size"),
        )
        with pytest.raises(MissingValue, match="derived meter 'bytes'"):
            record(metering)
        assert total(metering, "requests") == 1


def test_an_event_recorded_while_a_meter_is_derived_is_counted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is checked in the transaction that stores the derived meter."""
    with store.metering() as metering, store.metering() as other:
        configure_source(metering)
        run_before(monkeypatch, metering._ledger, "exclusive", lambda: record(other, size="5"))  # pyright: ignore
        derive(metering)
        assert (total(metering), total(other)) == (15, 15)


def test_an_event_recorded_while_a_meter_is_derived_that_it_can_not_read_prevents_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the event, and nothing is changed."""
    with store.metering() as metering, store.metering() as other:
        configure_source(metering)
        run_before(monkeypatch, metering._ledger, "exclusive", lambda: record(other))  # pyright: ignore
        with pytest.raises(IncompatibleRules) as error:
            derive(metering)
        assert [event.position for event in error.value.events] == [3]
        assert (metering.catch_up(), len(metering.generations.list())) == (3, 1)
        assert metering.meters.get("requests").derived_meters == ()


def test_one_of_two_clients_derives_a_meter(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one finds the meter, or that its name is taken."""
    with store.metering() as metering, store.metering() as other:
        configure_source(metering)

        def take_name() -> None:
            other.meters.configure("bytes", formula="count")

        run_before(monkeypatch, metering._ledger, "exclusive", take_name)  # pyright: ignore
        with pytest.raises(MeterAlreadyExists, match="is not derived"):
            derive(metering)
        assert metering.meters.get("bytes").source is None
        assert [generation.state for generation in metering.generations.list()] == ["live"]
        run_before(
            monkeypatch,
            metering._ledger,  # pyright: ignore
            "exclusive",
            lambda: other.meters.rename("requests", "Requests"),
        )
        derive(metering, "sizes")
        assert metering.meters.get("requests").derived_meters == ("sizes",)
        assert total(other, "sizes") == 10


def test_a_meter_whose_configuration_was_interrupted_is_counted_by_the_next_query(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ended after the meter was stored and before its generation became live."""
    with store.metering() as metering, store.metering() as other:
        configure_source(metering)

        def end_process() -> None:
            raise KeyboardInterrupt

        run_before(monkeypatch, metering._generations, "make_live", end_process)  # pyright: ignore
        with pytest.raises(KeyboardInterrupt):
            derive(metering)
        record(other, size="5")
        assert total(other) == 15
        assert other.verify().is_equal


def test_a_generation_for_a_meter_that_was_not_configured_is_not_promoted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ended before the meter was stored. No event is checked against its rules until it is configured."""
    with store.metering() as metering:
        configure_source(metering)

        def end_process(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patches:
            patches.setattr(ExclusiveLedger, "append", end_process)
            with pytest.raises(KeyboardInterrupt):
                derive(metering)
        live, leftover = metering.generations.list()
        assert (live.rules, set(leftover.rules)) == ({}, {"bytes"})
        with pytest.raises(RulesConflict, match="isn't configured"):
            metering.generations.promote(leftover.number, reason="by mistake")
        derive(metering)
        assert [generation.number for generation in metering.generations.list()] == [live.number, leftover.number]
        assert total(metering) == 10
