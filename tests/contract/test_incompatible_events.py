"""The contract of rebuilds under rules that some recorded payloads are incompatible with: they are listed."""

import pytest
from tallybook.domain.errors import IncompatibleRules

from .histories import END, START, query_results, record_history
from .rule_changes import COMPLETE_PAYLOAD, before_rules_change, incomplete_event
from .stores import Store

BY_REGION = {"jobs": {"dimension_keys": ["region", "plan"]}, "tokens": {"value_key": "tokens"}}


def test_payloads_incompatible_with_the_new_rules_stop_the_rebuild_and_are_listed(store: Store) -> None:
    """The error lists the events of all changed meters with identifier and code; nothing is changed."""
    with store.metering() as metering:
        record_history(metering, 0)
        metering.record_many(
            [
                incomplete_event(0, COMPLETE_PAYLOAD),
                incomplete_event(1, COMPLETE_PAYLOAD | {"tokens": "many"}),
                incomplete_event(2, {"customer": "acme", "value": "1"}),
                incomplete_event(3, {"customer": "acme", "value": "1"}, "seats"),
                incomplete_event(4, COMPLETE_PAYLOAD, "jobs"),
                incomplete_event(5, COMPLETE_PAYLOAD | {"plan": "free"}, "jobs"),
            ]
        )
        metering.cancel("tokens", "poor-1")
        before = query_results(metering), metering.generations.list(), metering.meters.list()
        for build in (
            lambda: metering.generations.rebuild(rules=BY_REGION),
            lambda: metering.generations.rebuild(rules=BY_REGION),
        ):
            with pytest.raises(IncompatibleRules) as exc_info:
                build()
            assert [(entry.identifier, entry.event_name, entry.code) for entry in exc_info.value.events] == [
                ("poor-1", "tokens", "payload_invalid_value"),
                ("poor-2", "tokens", "payload_no_value_defined"),
                ("poor-4", "jobs", "missing_dimension_payload_keys"),
            ]
            assert exc_info.value.count == 3
            assert (query_results(metering), metering.generations.list(), metering.meters.list()) == before
        with pytest.raises(IncompatibleRules, match="can't read 2"):
            metering.rules.change("tokens", BY_REGION["tokens"], reason="by tokens")
        assert (query_results(metering), metering.generations.list(), metering.meters.list()) == before


def test_the_first_thousand_incompatible_events_are_listed_and_all_are_counted(store: Store) -> None:
    """The error has the exact count."""
    with store.metering() as metering:
        record_history(metering, 0)
        metering.record_many([incomplete_event(number, {"customer": "acme", "value": "1"}) for number in range(1_203)])
        with pytest.raises(IncompatibleRules) as exc_info:
            metering.generations.rebuild(rules=BY_REGION)
        assert (len(exc_info.value.events), exc_info.value.count) == (1_000, 1_203)


@pytest.mark.parametrize("operation", ["promote", "diff"])
def test_an_incompatible_event_recorded_after_the_rebuild_is_listed_too(store: Store, operation: str) -> None:
    """Promoting or comparing a candidate with an incompatible event raises the same error as a rebuild."""
    with store.metering() as metering:
        record_history(metering, 0)
        metering.record_many([incomplete_event(0, COMPLETE_PAYLOAD)])
        candidate = metering.generations.rebuild(rules=BY_REGION).number
        metering.record_many(
            [incomplete_event(1, {"customer": "acme", "value": "1"}), incomplete_event(2, COMPLETE_PAYLOAD)]
        )
        before = query_results(metering)
        with pytest.raises(IncompatibleRules) as exc_info:
            metering.generations.promote(
                candidate, reason="by tokens"
            ) if operation == "promote" else metering.generations.diff(candidate)
        assert [item.identifier for item in exc_info.value.events] == ["poor-1"]
        assert [(item.number, item.state) for item in metering.generations.list()] == [(1, "live")]
        assert (metering.meters.get("tokens").revision, query_results(metering)) == (1, before)


def test_an_incompatible_event_recorded_during_the_rule_change_is_listed_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event is recorded after the candidate caught up and before the ledger is locked. No rules are changed."""
    with store.metering() as metering, store.metering() as other:
        record_history(metering, 0)
        candidate = metering.generations.rebuild(rules=BY_REGION).number
        before_rules_change(
            metering, monkeypatch, lambda: other.record_many([incomplete_event(1, {"customer": "acme", "value": "1"})])
        )
        with pytest.raises(IncompatibleRules, match="poor-1"):
            metering.generations.promote(candidate, reason="by tokens")
        assert (metering.meters.get("tokens").revision, metering.meters.get("jobs").revision) == (1, 1)
        assert metering.total("tokens", "acme", START, END).sum == 1
        assert metering.verify().is_equal


def test_a_meter_event_validated_under_old_rules_is_validated_again_after_a_change(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If rules change between the validation and the storing of a batch, events incompatible with the new rules are
    rejected, and the others are recorded under the new rules."""
    with store.metering() as metering, store.metering() as other:
        record_history(metering, 0)
        candidate = other.generations.rebuild(rules=BY_REGION).number
        ledger = metering._ledger  # pyright: ignore[reportPrivateUsage]
        append_uses = ledger.append_meter_events
        once = iter([lambda: other.generations.promote(candidate, reason="by tokens")])

        def run_then_call(*decided: object) -> object:
            for pending_action in once:
                pending_action()
            return append_uses(*decided)  # pyright: ignore[reportArgumentType]

        monkeypatch.setattr(ledger, "append_meter_events", run_then_call)
        receipts = metering.record_many(
            [incomplete_event(0, COMPLETE_PAYLOAD), incomplete_event(1, {"customer": "acme", "value": "1"})]
        )
        assert [(receipt.outcome, receipt.error and receipt.error.code) for receipt in receipts] == [
            ("accepted", None), ("rejected", "payload_no_value_defined"),
        ]  # fmt: skip
        assert metering.total("tokens", "acme", START, END).sum == 7
        assert metering.verify().is_equal
