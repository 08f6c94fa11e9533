"""One example of every stored event, created by the aggregates, and examples with fields that were added later."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import cast

import msgspec
from tallybook.domain import (
    AcceptancePolicy,
    AccessKey,
    CustomerPeriods,
    EventTimeWindow,
    Formula,
    Meter,
    MeterEvent,
    PeriodTotals,
    Rules,
    Scope,
)
from tallybook.domain.acceptance_policy import default_accepted_range
from tallybook.domain.aggregate import Aggregate
from tallybook.domain.authorship import Author, acting_as
from tallybook.domain.billing_run import BillingRun, ControlTotal
from tallybook.domain.bulk_cancellation import BulkCancellation, CancellationSelection
from tallybook.domain.closed_period import PeriodGroup
from tallybook.domain.conditions import All, AnyOf, Compare, Equals, Exists, Not, OneOf
from tallybook.domain.history_pruning import HistoryPruning
from tallybook.domain.import_run import ImportRun
from tallybook.domain.meter_event import MeterEventData
from tallybook.domain.rounding import Rounding, RoundingMode

from .proposal_examples import approval_policy, approved_change, other_proposals, proposals

RECORDED_AT = datetime(2026, 11, 1, 10, 30, 0, 123_456, UTC)
AUTHOR = Author("sk_live_0192f0c18b4f7d66", "req_GkW4zN0tq1mPpA", on_behalf_of="Zoë")
EVENT_DATA = MeterEventData(
    recorded_at=RECORDED_AT,
    event_name="tokens",
    payload={"customer": "Zoë & Søn", "tokens": "-25.50", "model": 'the "large" one\n'},
    occurred_at=datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC),
)


def _meter() -> list[Aggregate.Event]:
    rules = Rules(
        formula=Formula.LAST,
        event_time_window=EventTimeWindow.HOUR,
        customer_key="customer",
        value_key="tokens",
        dimension_keys=("model",),
    )
    meter = Meter.configure("tokens", "Tokens", rules, at=RECORDED_AT)
    meter.rename("Jetons utilisés", at=RECORDED_AT + timedelta(hours=1))
    meter.deactivate(at=RECORDED_AT + timedelta(hours=2))
    meter.reactivate(at=RECORDED_AT + timedelta(hours=3))
    meter.change_rules(
        rules.model_copy(update={"formula": Formula.SUM, "event_time_window": None}),
        reason="bill every report",
        by="finance@example.com",
        at=RECORDED_AT + timedelta(hours=3, minutes=30),
    )
    meter.add_derived_meter("jetons d'été", at=RECORDED_AT + timedelta(hours=3, minutes=45))
    return [event for event in meter.collect_events() if isinstance(event, Aggregate.Event)]


def _meter_with_all_rules() -> list[Aggregate.Event]:
    plan = AnyOf(conditions=(OneOf(key="plan", one_of=("free", "Zoë & Søn")), Exists(key="plan", exists=False)))
    size = Compare(key="size", greater_than=Decimal("-0.5"), at_least=Decimal(0), less_than=Decimal("1E+3"),
                   at_most=Decimal("0.00000025"))  # fmt: skip
    is_no_test = Not.model_validate({"not": {"key": "test", "equals": "1"}})
    rules = Rules(
        formula=Formula.UNIQUE_COUNT,
        event_time_window=EventTimeWindow.DAY,
        customer_key="customer",
        value_key="user",
        dimension_keys=("model",),
        optional_dimension_keys=("region", "plan"),
        filter=All(conditions=(Equals(key="kind", equals="ok"), plan, size, is_no_test)),
        multiplier=Fraction(1, 3600),
        rounding=Rounding(mode=RoundingMode.HALF_UP, step=Decimal("0.01")),
    )
    meter = Meter.configure("users", "Users", rules, at=RECORDED_AT)
    return [event for event in meter.collect_events() if isinstance(event, Aggregate.Event)]


def _announced_rules() -> list[Aggregate.Event]:
    meter = Meter.configure("tokens", "Tokens", Rules(), at=RECORDED_AT)
    meter.change_rules(
        Rules(formula=Formula.COUNT),
        reason="the contract of December",
        by=None,
        at=RECORDED_AT + timedelta(hours=1),
        effective_from=datetime(2026, 12, 1, tzinfo=UTC),
    )
    return [event for event in meter.collect_events() if isinstance(event, Aggregate.Event)]


def _derived_meter() -> list[Aggregate.Event]:
    rules = Rules(customer_key="customer", value_key="tokens")
    meter = Meter.configure("jetons d'été", "Été", rules, at=RECORDED_AT, source="tokens")
    return [event for event in meter.collect_events() if isinstance(event, Aggregate.Event)]


def _meter_event() -> list[Aggregate.Event]:
    meter_event = MeterEvent.create("req-1", EVENT_DATA)
    meter_event.cancel(
        "tokens",
        recorded_position=5,
        at=RECORDED_AT + timedelta(hours=4),
        policy=AcceptancePolicy(),
        reason="sent by a test",
    )
    meter_event.revoke_cancel(
        "tokens",
        recorded_position=5,
        at=RECORDED_AT + timedelta(hours=4, minutes=30),
        policy=AcceptancePolicy(),
        reason="it was no test",
        by="ops@acme",
    )
    return [event for event in meter_event.collect_events() if isinstance(event, Aggregate.Event)]


def _totals() -> PeriodTotals:
    return PeriodTotals(
        quantity=Decimal("-0.00000025"),
        billable=Decimal(0),
        sum=Decimal("1E+3"),
        count=2,
        last=Decimal("-0.00000025"),
        rules=Rules(formula=Formula.LAST, customer_key="customer", value_key="tokens"),
        revision=1,
        position=7,
        digest="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    )


def _closed_periods() -> list[Aggregate.Event]:
    periods = CustomerPeriods.empty("tokens/out", "Zoë & Søn", at=RECORDED_AT)
    october = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
    periods.close(*october, _totals(), at=RECORDED_AT + timedelta(hours=5), policy=AcceptancePolicy())
    periods.reopen(*october, reason="a report was missing", by="ops@acme", at=RECORDED_AT + timedelta(hours=6))
    return [event for event in periods.collect_events() if isinstance(event, Aggregate.Event)]


def _settled_period() -> list[Aggregate.Event]:
    periods = CustomerPeriods.empty("tokens/out", "Zoë & Søn", at=RECORDED_AT)
    october = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
    periods.close(*october, _totals(), at=RECORDED_AT + timedelta(hours=5), policy=AcceptancePolicy())
    periods.settle(
        *october,
        quantity=Decimal("-1.50"),
        billable=Decimal(0),
        position=12,
        document="CN-7/2026 «Zoë»",
        by="finance@acme",
        at=RECORDED_AT + timedelta(hours=6),
    )
    return [event for event in periods.collect_events() if isinstance(event, Aggregate.Event)][1:]


def _period_with_groups() -> list[Aggregate.Event]:
    periods = CustomerPeriods.empty("tokens/out", "Zoë & Søn", at=RECORDED_AT)
    groups = tuple(
        PeriodGroup(
            dimensions={"model": 'the "large" one', "region": region},
            quantity=Decimal(quantity),
            billable=max(Decimal(quantity), Decimal(0)),
            sum=Decimal("1E+3"),
            count=1,
            last=None if region is None else Decimal(quantity),
        )
        for region, quantity in ((None, "0.00000025"), ("Île-de-France", "-1.50"))
    )
    periods.close(
        datetime(2026, 10, 1, tzinfo=UTC),
        datetime(2026, 11, 1, tzinfo=UTC),
        _totals().model_copy(update={"groups": groups}),
        at=RECORDED_AT + timedelta(hours=5),
        policy=AcceptancePolicy(),
    )
    return [event for event in periods.collect_events() if isinstance(event, Aggregate.Event)]


def _period_with_counted_range() -> list[Aggregate.Event]:
    periods = CustomerPeriods.empty("tokens/out", "Zoë & Søn", at=RECORDED_AT)
    counted_range = {
        "counted_from": datetime(2026, 10, 1, tzinfo=UTC),
        "counted_until": datetime(2026, 11, 1, tzinfo=UTC),
    }
    periods.close(
        datetime(2026, 9, 30, 22, tzinfo=UTC),
        datetime(2026, 10, 31, 23, tzinfo=UTC),
        _totals().model_copy(update=counted_range),
        at=RECORDED_AT + timedelta(hours=5),
        policy=AcceptancePolicy(),
    )
    return [event for event in periods.collect_events() if isinstance(event, Aggregate.Event)]


def _billing_run() -> list[Aggregate.Event]:
    run = BillingRun.begin(
        7, datetime(2026, 9, 30, 22, tzinfo=UTC), datetime(2026, 10, 31, 23, tzinfo=UTC), timezone="Europe/Berlin",
        event_names=("seats", "tokens/out"), is_for_all_meters=True, group_by=(), position=7, by="finance@acme",
        at=RECORDED_AT + timedelta(hours=7), policy=AcceptancePolicy(),
    )  # fmt: skip
    totals = tuple(
        ControlTotal(
            event_name=event_name, customers=2, closed_before=1, quantity=Decimal("-0.00000025"), billable=Decimal(0),
            sum=Decimal("1E+3"), count=3, usage_sum=Decimal("1E+3"), usage_count=4, not_closed=1, late=0,
        )
        for event_name in ("seats", "tokens/out")
    )  # fmt: skip
    run.finish(totals, 3, by=None, at=RECORDED_AT + timedelta(hours=8))
    return [event for event in run.collect_events() if isinstance(event, Aggregate.Event)]


def _billing_run_with_groups() -> list[Aggregate.Event]:
    run = BillingRun.begin(
        1, datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC), timezone="UTC",
        event_names=("tokens/out",), is_for_all_meters=False, group_by=("model", "region"), position=7, by=None,
        at=RECORDED_AT + timedelta(hours=7), policy=AcceptancePolicy(),
    )  # fmt: skip
    return [event for event in run.collect_events() if isinstance(event, Aggregate.Event)]


def _access_key() -> list[Aggregate.Event]:
    key = AccessKey.create(
        "6f1c0a9be2d4783f",
        "Jx5c_9kV1qA-T0mZrB7uYdN3wLhE8sPfG2iKoXvCtQ4",
        salt="00112233445566778899aabbccddeeff" * 2,
        name="Zoë's importer",
        scopes=(Scope.RECORD, Scope.READ),
        livemode=True,
        by="ops@example.com",
        at=RECORDED_AT + timedelta(hours=7),
    )
    key.revoke(reason="left in a log", by=None, at=RECORDED_AT + timedelta(hours=8))
    return [event for event in key.collect_events() if isinstance(event, Aggregate.Event)]


def _limited_access_key() -> Aggregate.Event:
    key = AccessKey.create(
        "6f1c0a9be2d4783f",
        "Jx5c_9kV1qA-T0mZrB7uYdN3wLhE8sPfG2iKoXvCtQ4",
        salt="00112233445566778899aabbccddeeff" * 2,
        name="Zoë's page",
        scopes=(Scope.READ,),
        livemode=True,
        by=None,
        at=RECORDED_AT + timedelta(hours=7),
        customers=("Zoë & Søn", "acme"),
    )
    (event,) = key.collect_events()
    assert isinstance(event, Aggregate.Event)
    return event


def _access_key_before_cancel() -> list[Aggregate.Event]:
    """Return the events of a key of a version in which the scope `record` included cancelling."""
    created, revoked = _access_key()
    return [created.model_copy(update={"is_record_only": False}), revoked]


def _bulk_cancellation() -> list[Aggregate.Event]:
    selection = CancellationSelection(
        customer="Zoë & Søn",
        start=datetime(2026, 10, 1, tzinfo=UTC),
        end=datetime(2026, 11, 1, tzinfo=UTC),
        recorded_from=RECORDED_AT,
        recorded_until=RECORDED_AT + timedelta(hours=1),
        import_run="0192f0c1-7a3e-7c55-8f42-0a1b2c3d4e5f",
        identifier_prefix="req-",
        where={"model": (None, 'the "large" one')},
    )
    bulk = BulkCancellation.decide(
        "0192f0c1-8b4f-7d66-9053-1b2c3d4e5f60",
        "tokens",
        selection,
        position=1_234,
        cancellable_from=RECORDED_AT - timedelta(hours=15),
        count=1_500,
        digest="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        reason="the file of another customer",
        by="finance@example.com",
        at=RECORDED_AT + timedelta(hours=9),
    )
    for part in (bulk.advance, bulk.advance):
        part(750, 1_000, is_last=bulk.cancelled > 0, at=RECORDED_AT + timedelta(hours=9))
    bulk.revoke(
        reason="it was right", by=None, at=RECORDED_AT + timedelta(hours=9, minutes=15), policy=AcceptancePolicy()
    )
    bulk.advance(1_000, 3_000, is_last=False, at=RECORDED_AT + timedelta(hours=9, minutes=15))
    bulk.advance(500, 3_501, is_last=True, at=RECORDED_AT + timedelta(hours=9, minutes=15))
    return [event for event in bulk.collect_events() if isinstance(event, Aggregate.Event)]


def _cancellation_of_a_bulk() -> list[Aggregate.Event]:
    cancelled = MeterEvent.cancellation_event(
        "req-1", 2, EVENT_DATA, recorded_position=5, at=RECORDED_AT + timedelta(hours=9), reason="another customer",
        by=None, cancellation_id="0192f0c1-8b4f-7d66-9053-1b2c3d4e5f60",
    )  # fmt: skip
    revoked = MeterEvent.revocation_event(
        cancelled, at=RECORDED_AT + timedelta(hours=9, minutes=15), reason="it was right", by=None
    )
    return [cancelled, revoked]


def _import_run() -> list[Aggregate.Event]:
    first, second = EVENT_DATA.occurred_at, EVENT_DATA.occurred_at + timedelta(seconds=0.25)
    run = ImportRun.start(
        "0192f0c1-7a3e-7c55-8f42-0a1b2c3d4e5f",
        file="October, Zoë & Søn.csv",
        digest="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        by="ops@example.com",
        count=995,
        event_names=("tokens",),
        earliest=first,
        latest=first,
        at=RECORDED_AT,
    )
    run.record_batch(count=5, event_names=("seats", "tokens"), earliest=first, latest=second, at=RECORDED_AT)
    run.finish(rows=1_010, accepted=1_000, duplicates=5, conflicts=3, rejected=2, at=RECORDED_AT)
    return [event for event in run.collect_events() if isinstance(event, Aggregate.Event)]


def _history_pruning() -> list[Aggregate.Event]:
    pruning = HistoryPruning.prune(
        None,
        995,
        headings="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        archive="s3://books/usage",
        archived_position=1_000,
        root="PQ9n1l5PbFxBmWXW1gVfVJ7/LZ1l0c0VbFqmXW1gVfU=",
        checkpoint_size=1_000,
        by="ops@example.com",
        at=RECORDED_AT,
    )
    return [event for event in pruning.collect_events() if isinstance(event, Aggregate.Event)]


def _examples() -> Mapping[str, Aggregate.Event]:
    return {
        type(event).__name__: event
        for event in (
            *_meter(),
            *_meter_event(),
            *_closed_periods(),
            *_settled_period(),
            *_billing_run(),
            *_access_key_before_cancel(),
            *_bulk_cancellation(),
            *_import_run(),
            *_history_pruning(),
            *approval_policy(),
            *proposals(),
        )
    }


def _with_author() -> Mapping[str, Aggregate.Event]:
    with acting_as(AUTHOR):
        examples = dict(_examples())
    data = msgspec.structs.replace(EVENT_DATA, by=AUTHOR.by, via=AUTHOR.via, on_behalf_of=AUTHOR.on_behalf_of)
    (recorded,) = MeterEvent.create("req-1", data).collect_events()
    return examples | {"UsageRecorded": cast(Aggregate.Event, recorded)}


def _accepted_late() -> list[Aggregate.Event]:
    policy = AcceptancePolicy(max_age=timedelta(days=90), cancel_window=None)
    at = RECORDED_AT + timedelta(days=60)
    data = msgspec.structs.replace(
        EVENT_DATA, accepted_under=policy.beyond_default_ages(EVENT_DATA.occurred_at, default_accepted_range(at))
    )
    meter_event = MeterEvent.create("req-1", data)
    meter_event.cancel("tokens", recorded_position=5, at=at, policy=policy, reason="found by an audit")
    return [event for event in meter_event.collect_events() if isinstance(event, Aggregate.Event)]


EXAMPLES = _examples()
"""The examples, by topic."""

EXAMPLES_WITH_AUTHOR = _with_author()
"""The examples as a request to the HTTP server causes them, by topic."""

VARIANTS: Mapping[str, Aggregate.Event] = {
    "record-only": _access_key()[0],
    "derived": _derived_meter()[0],
    "all-rules": _meter_with_all_rules()[0],
    "groups": _period_with_groups()[0],
    "counted-range": _period_with_counted_range()[0],
    "run-groups": _billing_run_with_groups()[0],
    "effective-from": _announced_rules()[1],
    "bulk": _cancellation_of_a_bulk()[0],
    "of-bulk": _cancellation_of_a_bulk()[1],
    "not-last": _bulk_cancellation()[1],
    "late": _accepted_late()[0],
    "cancelled-late": _accepted_late()[1],
    "customers": _limited_access_key(),
    "approved": approved_change(),
    **other_proposals(),
}
"""Examples with fields that were added later and are left out without a value, by the variant that they show."""
