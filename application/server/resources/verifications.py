"""Verification: the read models and the closed periods against a fresh fold of the ledger."""

from typing import Literal

import msgspec

from ...verifying import TableVerification, Verification
from ..desk import Call, Desk
from ..long_work import long_work
from ..periods import closings, id_of_closing
from ..routes import Routes
from ..times import unix
from ..wire import Parameters

routes = Routes("Verification")
MOST_PERIODS = 100


class RowMismatch(msgspec.Struct, kw_only=True):
    """A row that isn't as a fresh fold makes it; null on the side where there is none."""

    table: str
    key: str
    found: str | None
    expected: str | None


class VerifiedTable(msgspec.Struct, kw_only=True):
    """A table of the read models: SHA-256 over its rows in order, as found and as a fresh fold makes them."""

    digest: str
    expected_digest: str
    matches: bool
    rows: int
    table: str


class BillingVerification(msgspec.Struct, kw_only=True):
    """Whether all read models and closed periods are as the ledger up to `position` makes them.

    `first_mismatch` is the first row that isn't, `differing_periods` are closed periods whose figures aren't: at most
    100 of them.
    """

    object: Literal["billing.verification"] = "billing.verification"
    closed_periods: int
    created: int
    differing_periods: list[str]
    first_mismatch: RowMismatch | None
    generation: int
    livemode: bool
    matches: bool
    position: int
    tables: list[VerifiedTable]


@routes.post("/v1/billing/verification")
def verify(call: Call[Parameters]) -> BillingVerification:
    """Verify the read models and the closed periods: fold all of the ledger afresh, and compare.

    It may take long, and one at a time is taken.
    """
    desk = call.desk
    with long_work(desk):
        found = desk.metering.verify()
    first = next((table.difference for table in found.tables if table.difference is not None), None)
    return BillingVerification(
        closed_periods=found.closed_periods,
        created=unix(desk.now()),
        differing_periods=_differing(found, desk),
        first_mismatch=first
        and RowMismatch(table=first.table, key=first.key, found=first.found, expected=first.expected),
        generation=found.generation,
        livemode=desk.livemode,
        matches=found.is_equal,
        position=found.position,
        tables=[_shown(table) for table in found.tables],
    )


def _differing(found: Verification, desk: Desk) -> list[str]:
    """The ids of the first closed periods that differ."""
    ids: list[str] = []
    for difference in found.differing_periods[:MOST_PERIODS]:
        period = difference.period
        same = closings(desk, period.event_name, period.customer)
        ids += [id_of_closing(one) for one in same if one.period == period]
    return ids


def _shown(table: TableVerification) -> VerifiedTable:
    return VerifiedTable(
        digest=table.digest,
        expected_digest=table.expected_digest,
        matches=table.is_equal,
        rows=table.rows,
        table=table.table,
    )
