"""Bulk cancellations: one decision cancels many meter events; it can be interrupted, resumed and revoked."""

import tracemalloc
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from tallybook.application import (
    AcceptancePolicy,
    CancellationNotFound,
    CancellationSelection,
    ImportRunNotFound,
    InvalidCancellation,
    InvalidParameter,
    Metering,
    PreviewChanged,
    Total,
)
from tallybook.application.commands import bulk_cancellations
from tallybook.application.ledger.ledger import Ledger

from .histories import END, METERS, START, query_results, record_history
from .persistent_stores import PersistentStore
from .stores import NOW, Store

WRONG = 30
"""The number of meter events that are recorded wrongly, after the history."""


class Killed(BaseException):
    """Ends a call in the middle, as the end of its process does."""


def wrong_event(number: int) -> dict[str, object]:
    """Return a meter event that supersedes events of the history."""
    return {
        "event_name": METERS[number % 3],
        "identifier": f"wrong-{number:02d}",
        "timestamp": START + timedelta(hours=number),
        "payload": {"customer": ("acme", "globex")[number % 2], "value": "1000", "region": "eu"},
    }


def record_wrong_events(metering: Metering) -> None:
    """Record events of two customers on each meter."""
    metering.record_many([wrong_event(number) for number in range(WRONG)])


def cancel_wrong_events(metering: Metering, event_name: str, **options: Any) -> str:
    """Cancel the wrong events of a meter and return the id of the cancellation."""
    bulk = metering.cancellations.cancel_many(
        event_name, identifier_prefix="wrong-", reason="a wrong file", by="ops", **options
    )
    return bulk.cancellation_id


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancel three events in a transaction."""
    monkeypatch.setattr(bulk_cancellations, "EVENTS_PER_BATCH", 3)


def test_all_results_are_as_if_the_events_had_never_been_recorded(store: Store) -> None:
    """And revoking the decision brings the first results back, now and as of each time."""
    with store.metering() as metering:
        record_history(metering)
        without = query_results(metering)
        record_wrong_events(metering)
        with_wrong, recorded = query_results(metering), metering.catch_up()
        ids = [cancel_wrong_events(metering, name) for name in METERS]
        cancelled_at = metering.catch_up()
        assert totals_of(query_results(metering)) == totals_of(without)
        assert {metering.cancellations.get(bulk).status for bulk in ids} == {"cancelled"}
        for bulk in ids:
            revoked = metering.cancellations.revoke(bulk, reason="the file was right")
            assert (revoked.status, revoked.cancelled, revoked.revoked) == ("revoked", WRONG // 3, WRONG // 3)
        assert totals_of(query_results(metering)) == totals_of(with_wrong)
        for name in METERS:
            assert metering.totals(name, START, END, as_of=recorded) == with_wrong[name][0]
            assert metering.totals(name, START, END, as_of=cancelled_at) == without[name][0]
        assert metering.verify().is_equal


def totals_of(results: Any) -> list[Any]:
    """Return the totals, summaries and digest of each meter, without positions and revoked cancellations."""
    return [(totals, summaries, explanation.digest) for totals, summaries, explanation in results.values()]


def test_a_preview_has_the_totals_before_and_after(store: Store) -> None:
    """By customer and month, exactly as they are after the cancellation; the digest names the same events."""
    with store.metering() as metering:
        record_history(metering)
        record_wrong_events(metering)
        for name in METERS:
            preview = metering.cancellations.preview(name, identifier_prefix="wrong-")
            before = metering.totals(name, START, END)
            assert [(row.customer, row.quantity) for row in preview.rows] == quantities(before)
            cancel_wrong_events(metering, name, digest=preview.digest)
            after = metering.totals(name, START, END)
            assert [(row.customer, row.new_quantity) for row in preview.rows] == quantities(after)
            assert sum(row.count for row in preview.rows) == preview.count == WRONG // 3
            again = metering.cancellations.preview(name, identifier_prefix="wrong-")
            assert (again.count, again.already_cancelled, again.too_old) == (0, WRONG // 3, 0)


def quantities(totals: Sequence[Total]) -> list[tuple[str | None, object]]:
    """Return the quantities of the customers of the wrong events."""
    return [(total.customer, total.value) for total in totals if total.customer in ("acme", "globex")]


def interrupt_after(monkeypatch: pytest.MonkeyPatch, transactions: int) -> None:
    """End the process after some transactions."""
    append, remaining = Ledger.append, [transactions]

    def append_or_end(ledger: Ledger, events: Any, versions: Any = None) -> None:
        if not remaining[0]:
            raise Killed
        remaining[0] -= 1
        append(ledger, events, versions)

    monkeypatch.setattr(Ledger, "append", append_or_end)


@pytest.mark.parametrize("transactions", [1, 2, 4])
def test_an_interrupted_cancellation_is_resumed(
    persistent_store: PersistentStore, monkeypatch: pytest.MonkeyPatch, transactions: int
) -> None:
    """Ended after any commit, it is finished with each event cancelled once, and so is its revocation."""
    store = persistent_store
    with store.metering() as metering:
        record_history(metering, 20)
        without = query_results(metering)
        record_wrong_events(metering)
        with_wrong = query_results(metering)
    for change, expected, statuses in (
        (cancel_in_part, without, ("cancelling", "cancelled")),
        (revoke_in_part, with_wrong, ("revoking", "revoked")),
    ):
        with monkeypatch.context() as patch, store.metering() as metering:
            interrupt_after(patch, transactions)
            with pytest.raises(Killed):
                change(metering)
        with store.metering() as metering:
            metering.record("tokens", {"customer": "other", "value": "1"})  # others go on meanwhile
            (bulk,) = metering.cancellations.list()
            finished = metering.cancellations.resume(bulk.cancellation_id)
            assert (bulk.status, finished.status) == statuses
            assert finished.cancelled == finished.count == WRONG // 3
            assert metering.totals("seats", START, END) == expected["seats"][0]
            assert metering.totals("jobs", START, END) == with_wrong["jobs"][0]
            assert metering.verify().is_equal


def cancel_in_part(metering: Metering) -> None:
    """Cancel the wrong events of one meter."""
    cancel_wrong_events(metering, "seats")


def revoke_in_part(metering: Metering) -> None:
    """Revoke the first bulk cancellation."""
    metering.cancellations.revoke(metering.cancellations.list()[0].cancellation_id, reason="it was right")


def in_between(monkeypatch: pytest.MonkeyPatch, change: Callable[[Metering], None], metering: Metering) -> None:
    """Let another process change something before the third transaction."""
    append, calls = Ledger.append, [0]

    def append_after_change(ledger: Ledger, events: Any, versions: Any = None) -> None:
        calls[0] += 1
        if calls[0] == 3:
            change(metering)
        append(ledger, events, versions)

    monkeypatch.setattr(Ledger, "append", append_after_change)


def test_events_that_others_cancel_meanwhile_are_left_to_them(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decision ends with fewer events than it selected; revoking it doesn't touch the others."""

    def cancel_singly(metering: Metering) -> None:
        metering.cancel("tokens", "wrong-12", reason="by another")

    with store.metering() as metering:
        record_history(metering, 20)
        record_wrong_events(metering)
        with monkeypatch.context() as patch:
            in_between(patch, cancel_singly, metering)
            bulk = metering.cancellations.get(cancel_wrong_events(metering, "tokens"))
        assert (bulk.status, bulk.cancelled, bulk.count) == ("cancelled", 9, 10)
        metering.cancellations.revoke(bulk.cancellation_id, reason="it was right")
        wrong = [event for event in metering.events("tokens") if "wrong" in event.identifier]
        assert [event.identifier for event in wrong if event.verdict == "cancelled"] == ["wrong-12"]


def test_events_that_others_count_again_meanwhile_are_left_to_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revocation of single events goes on beside that of the decision."""

    def revoke_singly(metering: Metering) -> None:
        metering.revoke_cancel("tokens", "wrong-15", reason="by another")

    with store.metering() as metering:
        record_history(metering, 20)
        record_wrong_events(metering)
        bulk = cancel_wrong_events(metering, "tokens")
        metering.revoke_cancel("tokens", "wrong-03", reason="by another")
        with monkeypatch.context() as patch:
            in_between(patch, revoke_singly, metering)
            revoked = metering.cancellations.revoke(bulk, reason="it was right")
        assert (revoked.status, revoked.revoked) == ("revoked", 8)
        assert all(event.verdict == "counted" for event in metering.events("tokens") if "wrong" in event.identifier)
        assert metering.verify().is_equal


def test_each_condition_selects(store: Store) -> None:
    """Customer, time, time of recording, beginning of the identifier and dimension values; all must match."""
    with store.metering() as metering:
        record_history(metering, 20)
        record_wrong_events(metering)
        jobs = [event for event in metering.events("jobs") if event.cancelled_at is None]

        def count(**selection: Any) -> int:
            return metering.cancellations.preview("jobs", **selection).count

        hour = START + timedelta(hours=5), START + timedelta(hours=12)
        assert count(identifier_prefix="wrong-") == WRONG // 3
        assert count(customer="acme") == sum(event.customer == "acme" for event in jobs)
        assert count(customer="nobody") == 0
        assert count(start=hour[0], end=hour[1]) == sum(hour[0] <= event.occurred_at < hour[1] for event in jobs)
        assert count(recorded_from=NOW) == count(recorded_until=NOW + timedelta(seconds=1)) == len(jobs)
        assert count(recorded_until=NOW) == 0
        assert count(where={"region": "eu"}) == sum(event.dimensions["region"] == "eu" for event in jobs)
        assert count(where={"region": ["us"]}, identifier_prefix="wrong-") == 0


@pytest.mark.parametrize("transactions", [0, 1, 2])
def test_an_identifier_makes_one_decision(
    persistent_store: PersistentStore, monkeypatch: pytest.MonkeyPatch, transactions: int
) -> None:
    """Wherever the first call is interrupted. Once it is made, it cancels nothing that is recorded later."""
    with persistent_store.metering() as metering:
        record_history(metering, 20)
        record_wrong_events(metering)
        with monkeypatch.context() as patch:
            interrupt_after(patch, transactions)
            with pytest.raises(Killed):
                cancel_wrong_events(metering, "tokens", identifier="ticket 7")
        made = [bulk.cancellation_id for bulk in metering.cancellations.list()]
        assert len(made) == (transactions > 0)
        record_later_event(metering)
        repeated = [cancel_wrong_events(metering, "tokens", identifier="ticket 7") for _ in range(2)]
        (finished,) = metering.cancellations.list()
        assert {*made, *repeated} == {finished.cancellation_id}
        is_later_selected = not made
        assert (finished.status, finished.cancelled) == ("cancelled", WRONG // 3 + is_later_selected)
        record_later_event(metering, "wrong-latest")
        assert cancel_wrong_events(metering, "tokens", identifier="ticket 8") != finished.cancellation_id


def record_later_event(metering: Metering, identifier: str = "wrong-later") -> None:
    """Record another wrong event."""
    payload = {"customer": "acme", "value": "1"}
    metering.record("tokens", payload, identifier=identifier, timestamp=START)


def test_two_calls_with_one_identifier_at_the_same_time_make_one_decision(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that stores its decision later finds that of the other, and works on it."""
    append, made = Ledger.append, list[str]()

    def append_after_the_other(ledger: Ledger, events: Any, versions: Any = None) -> None:
        if not made:
            made.append("")
            made[0] = cancel_wrong_events(metering, "tokens", identifier="ticket 7")
        append(ledger, events, versions)

    with store.metering() as metering:
        record_history(metering, 20)
        record_wrong_events(metering)
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "append", append_after_the_other)
            assert cancel_wrong_events(metering, "tokens", identifier="ticket 7") == made[0]
        (bulk,) = metering.cancellations.list()
        assert (bulk.status, bulk.cancelled) == ("cancelled", WRONG // 3)


def test_a_proposal_with_the_same_identifier_is_another_decision(store: Store) -> None:
    """Though the bulk cancellation that was proposed has the id of its proposal."""
    with store.metering() as metering:
        record_history(metering, 20)
        record_wrong_events(metering)
        proposal = metering.proposals.propose_cancellation(
            "tokens", identifier_prefix="wrong-", reason="a wrong file", by="ops", identifier="ticket 7"
        )
        metering.proposals.approve(proposal.proposal_id, by="dora")
        assert metering.cancellations.get(proposal.proposal_id).status == "cancelled"
        made = cancel_wrong_events(metering, "jobs", identifier="ticket 7")
        assert metering.cancellations.get(made).event_name == "jobs"
        assert len(metering.cancellations.list()) == 2


def test_invalid_calls_change_nothing(store: Store) -> None:
    """No condition, nothing to cancel, another preview, too many events, an unknown id."""
    with store.metering() as metering:
        record_history(metering, 20)
        record_wrong_events(metering)
        head, cancellations = metering.catch_up(), metering.cancellations
        with pytest.raises(InvalidParameter, match="Select the meter events"):
            cancellations.cancel_many("tokens", reason="why")
        with pytest.raises(InvalidCancellation, match="No meter event of 'tokens' can be cancelled"):
            cancellations.cancel_many("tokens", customer="nobody", reason="why")
        with pytest.raises(PreviewChanged, match="10 now"):
            cancel_wrong_events(metering, "tokens", digest="0" * 64)
        with pytest.raises(InvalidCancellation, match="more than the limit of 9"):
            cancel_wrong_events(metering, "tokens", max_events=9)
        with pytest.raises(CancellationNotFound):
            cancellations.get("unknown")
        with pytest.raises(CancellationNotFound):
            cancellations.resume("unknown")
        with pytest.raises(CancellationNotFound):
            cancellations.revoke("unknown", reason="why")
        assert metering.catch_up() == head


def test_an_import_is_undone_and_counted_again(store: Store) -> None:
    """Exactly the meter events that it recorded, in any number of batches, and not those that existed before."""
    with store.metering() as metering:
        record_history(metering, 20)
        without = query_results(metering)
        recorder = metering.imports.start("wrong.csv", "0" * 64, by="ops")
        known = {"event_name": "jobs", "identifier": "use-00000", "payload": {"customer": "acme", "region": "eu"}}
        batches = [[known], *([wrong_event(number) for number in range(first, first + 7)] for first in (0, 7, 14))]
        for batch in batches:
            recorder.record_many(batch)
            metering.record("tokens", {"customer": "other", "value": "0"})
        recorder.finish(rows=22, accepted=21, duplicates=0, conflicts=1, rejected=0)
        with_wrong = query_results(metering)
        assert recorder.run_id is not None
        (run,) = metering.imports.list()
        assert run == metering.imports.get(recorder.run_id)
        assert (run.file, run.by, run.recorded, run.rows, run.conflicts) == ("wrong.csv", "ops", 21, 22, 1)
        assert (run.event_names, run.earliest, run.latest) == (
            tuple(sorted(METERS)), START, START + timedelta(hours=20),
        )  # fmt: skip
        previews = metering.imports.preview_undo(run.run_id)
        assert [preview.count for preview in previews] == [7, 7, 7]
        undone = metering.imports.undo(
            run.run_id, reason="a wrong file", digests=[preview.digest for preview in previews]
        )
        assert [(bulk.event_name, bulk.cancelled) for bulk in undone] == [(name, 7) for name in sorted(METERS)]
        assert jobs_and_seats(query_results(metering)) == jobs_and_seats(without)
        with pytest.raises(InvalidCancellation, match="7 are cancelled already"):
            metering.imports.undo(run.run_id, reason="a wrong file")
        for bulk in undone:
            metering.cancellations.revoke(bulk.cancellation_id, reason="the file was right")
        assert totals_of(query_results(metering)) == totals_of(with_wrong)


def jobs_and_seats(results: Any) -> list[Any]:
    """Return the totals of the meters without other usage."""
    return [results[name][0] for name in ("jobs", "seats")]


def test_an_import_that_records_nothing_leaves_no_trace(store: Store) -> None:
    """Importing a file again, whose rows are all duplicates, stores nothing."""
    with store.metering() as metering:
        record_history(metering, 20)
        first, second = (metering.imports.start("usage.csv", "0" * 64) for _ in range(2))
        batch = [wrong_event(number) for number in range(5)]
        assert first.record_many(batch).accepted == 5
        head = metering.catch_up()
        assert second.record_many(batch).duplicates == 5
        second.finish(rows=5, accepted=0, duplicates=5, conflicts=0, rejected=0)
        assert (second.run_id, metering.catch_up(), len(metering.imports.list())) == (None, head, 1)
        with pytest.raises(ImportRunNotFound):
            metering.imports.get("unknown")
        assert metering.imports.list()[0].finished_at is None


def test_a_preview_has_the_month_in_which_a_window_starts() -> None:
    """In Berlin, October begins inside the last day window of September: an event after that is September's."""
    with Metering.open("sqlite://", policy=AcceptancePolicy(max_age=None)) as metering:
        metering.meters.configure("seats", event_time_window="day", customer_key="customer", value_key="seats")
        metering.record("seats", {"customer": "acme", "seats": "5"}, timestamp=START - timedelta(minutes=30))
        (row,) = metering.cancellations.preview("seats", customer="acme", timezone="Europe/Berlin").rows
        assert (row.end, row.count, row.quantity, row.new_quantity) == (START - timedelta(hours=2), 1, 5, 0)


def test_a_selection_holds_no_payloads(metering: Metering) -> None:
    """A million meter events can be selected, each with a text of 5,000 characters."""
    metering.meters.configure("users", customer_key="customer", value_key="user", formula="unique_count")
    metering.record_many(
        {"event_name": "users", "payload": {"customer": "acme", "user": f"{number}{'x' * 4_990}"}, "timestamp": START}
        for number in range(300)
    )
    metering.catch_up()
    cancellations = metering.cancellations
    selection = CancellationSelection(customer="acme")
    tracemalloc.start()
    selected = cancellations._queries.select("users", selection, cancellable_from=None)  # pyright: ignore[reportPrivateUsage]
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(selected.events) == 300
    assert held < 300 * 2_000
