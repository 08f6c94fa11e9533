"""Verification of read models and closed periods against a replay of the ledger."""

from typing import Literal

import msgspec

from ....queries.verification import TableVerification, Verification
from ..api_types import Parameters, to_unix
from ..ledgers import RequestContext, ServedLedger, exclusive_job
from ..object_ids import encode_id
from ..operations import OperationRegistry
from .billing_runs import BILLING_RUN_PREFIX
from .closed_period_ids import closed_period_id, iter_identified_periods

operations = OperationRegistry("Verification")
MAX_DIFFERING = 100


class RowMismatch(msgspec.Struct, kw_only=True):
    """A row that differs from a replay of the ledger. A missing row is null."""

    table: str
    key: str
    found: str | None
    expected: str | None


class VerifiedTable(msgspec.Struct, kw_only=True):
    """A table of the read models, with the SHA-256 of its rows in order: as stored and as replayed."""

    digest: str
    expected_digest: str
    matches: bool
    rows: int
    table: str


class BillingVerification(msgspec.Struct, kw_only=True):
    """Whether all read models, closed periods and billing runs equal a replay of the ledger up to `position`.

    `first_mismatch` is the first row that differs. `differing_periods` are closed periods whose totals differ, and
    `differing_billing_runs` billing runs whose control totals aren't the sums of closings and usage; at most 100 each.
    """

    object: Literal["billing.verification"] = "billing.verification"
    billing_runs: int
    closed_periods: int
    created: int
    differing_billing_runs: list[str]
    differing_periods: list[str]
    first_mismatch: RowMismatch | None
    generation: int
    livemode: bool
    matches: bool
    position: int
    tables: list[VerifiedTable]


@operations.post("/v1/billing/verification")
def verify(context: RequestContext[Parameters]) -> BillingVerification:
    """Verify the read models and the closed periods: replay the whole ledger and compare.

    It may take long. Only one such request runs at a time.
    """
    ledger = context.ledger
    with exclusive_job(ledger):
        verification = ledger.metering.verify()
    first_difference = next((table.difference for table in verification.tables if table.difference is not None), None)
    return BillingVerification(
        billing_runs=verification.billing_runs,
        closed_periods=verification.closed_periods,
        created=to_unix(ledger.now()),
        differing_billing_runs=_differing_run_ids(verification),
        differing_periods=_differing_period_ids(verification, ledger),
        first_mismatch=first_difference
        and RowMismatch(
            table=first_difference.table,
            key=first_difference.key,
            found=first_difference.found,
            expected=first_difference.expected,
        ),
        generation=verification.generation,
        livemode=ledger.livemode,
        matches=verification.is_equal,
        position=verification.position,
        tables=[_to_response(table) for table in verification.tables],
    )


def _differing_run_ids(verification: Verification) -> list[str]:
    """Return the ids of the first billing runs that differ."""
    numbers = dict.fromkeys(difference.run for difference in verification.differing_runs)
    return [encode_id(BILLING_RUN_PREFIX, str(number)) for number in list(numbers)[:MAX_DIFFERING]]


def _differing_period_ids(verification: Verification, ledger: ServedLedger) -> list[str]:
    """Return the ids of the first closed periods that differ."""
    ids: list[str] = []
    for difference in verification.differing_periods[:MAX_DIFFERING]:
        period = difference.period
        candidates = iter_identified_periods(ledger, period.event_name, period.customer)
        ids += [closed_period_id(identified) for identified in candidates if identified.period == period]
    return ids


def _to_response(table: TableVerification) -> VerifiedTable:
    return VerifiedTable(
        digest=table.digest,
        expected_digest=table.expected_digest,
        matches=table.is_equal,
        rows=table.rows,
        table=table.table,
    )
