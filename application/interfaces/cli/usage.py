"""The commands `record` and `cancel` and their output."""

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ..condition_text import parse_pair
from ..formatting import format_requester, format_time
from .options import (
    DEFAULT_LEDGER,
    AnyAgeOption,
    AnyDigitsOption,
    BackfillOption,
    JsonOption,
    LedgerOption,
    MeterArgument,
    OnBehalfOfOption,
)
from .session import open_ledger, record_limits
from .terminal import format_name, say

if TYPE_CHECKING:
    from ....domain.meter_event import Cancellation, Revocation
    from ...results import Receipt

PayloadArgument = Annotated[
    list[str],
    typer.Argument(metavar="KEY=VALUE", help="The payload: the customer, the value and more.", show_default=False),
]
IdentifierOption = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="A unique identifier: a meter event sent twice is counted once."),
]
TimestampOption = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="When the usage occurred: an ISO date or datetime, in UTC without an offset. Now by default.",
    ),
]
IdentifierArgument = Annotated[
    str, typer.Argument(metavar="IDENTIFIER", help="The identifier of the meter event.", show_default=False)
]
ReasonOption = Annotated[str | None, typer.Option(metavar="TEXT", help="The reason of the cancellation or revocation.")]
RevokeOption = Annotated[
    bool, typer.Option("--revoke", help="Revoke the cancellation: the meter event counts again. It needs --reason.")
]


def record(
    meter: MeterArgument,
    payload: PayloadArgument,
    identifier: IdentifierOption = None,
    timestamp: TimestampOption = None,
    backfill: BackfillOption = False,
    any_digits: AnyDigitsOption = False,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Record one meter event.

    For example: tallybook record tokens customer=acme tokens=25 --identifier req-1
    """
    parsed_payload = _parse_payload(payload)
    with open_ledger(ledger, as_json, lift=record_limits(backfill, any_digits)) as session:
        occurred_at = _parse_timestamp(timestamp)
        receipt = session.metering.record(meter, parsed_payload, identifier=identifier, timestamp=occurred_at)
        session.confirm(receipt, show_receipt)


def cancel(
    meter: MeterArgument,
    identifier: IdentifierArgument,
    reason: ReasonOption = None,
    by: OnBehalfOfOption = None,
    revoke: RevokeOption = False,
    any_age: AnyAgeOption = False,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Cancel a meter event, or revoke its cancellation.

    Totals no longer count it. The event stays in the ledger, with the requester and the reason of the cancellation.
    With --revoke, an event that was cancelled by mistake counts again; it can be cancelled again later.
    """
    if revoke and reason is None:
        raise typer.BadParameter("A revocation needs a reason.", param_hint="'--reason'")
    with open_ledger(ledger, as_json, lift=["cancel_window"] if any_age else []) as session:
        if revoke:
            revocation = session.metering.revoke_cancel(meter, identifier, reason=reason or "", by=by)
            session.confirm(revocation, show_revocation)
            return
        started = datetime.now(UTC)
        cancellation = session.metering.cancel(meter, identifier, reason=reason, by=by)
        is_earlier = cancellation.cancelled_at < started
        session.confirm(cancellation, partial(show_earlier_cancellation, reason) if is_earlier else show_cancellation)


def show_receipt(receipt: "Receipt") -> None:
    """Print whether a meter event was accepted or is a duplicate."""
    if receipt.outcome == "accepted":
        say(f"accepted: {_identifier(receipt)} is recorded at position {receipt.position}")
    else:
        say(f"duplicate: {_identifier(receipt)} was recorded before, at position {receipt.position}; it counts once")


def _identifier(receipt: "Receipt") -> str:
    return format_name(receipt.identifier or "")


def show_cancellation(cancellation: "Cancellation") -> None:
    """Print when a meter event was cancelled, by whom and why."""
    requester = format_requester(cancellation.reason, cancellation.by, cancellation.on_behalf_of)
    say(f"cancelled: {format_name(cancellation.identifier)} at {format_time(cancellation.cancelled_at)}{requester}")


def show_earlier_cancellation(reason: str | None, cancellation: "Cancellation") -> None:
    """Print the cancellation that a meter event had before, and that a different reason is not stored."""
    requester = format_requester(cancellation.reason, cancellation.by, cancellation.on_behalf_of)
    at = format_time(cancellation.cancelled_at)
    say(f"cancelled before: {format_name(cancellation.identifier)} at {at}{requester}")
    if reason is not None and reason != cancellation.reason:
        say(f"The reason {reason!r} is not stored.")


def show_revocation(revocation: "Revocation") -> None:
    """Print when the cancellation of a meter event was revoked, by whom and why."""
    requester = format_requester(revocation.reason, revocation.by, revocation.on_behalf_of)
    say(f"counted again: {format_name(revocation.identifier)} at {format_time(revocation.revoked_at)}{requester}")


def _parse_payload(pairs: list[str]) -> dict[str, str]:
    payload: dict[str, str] = {}
    for pair in pairs:
        key, value = parse_pair(pair, "KEY=VALUE")
        if key in payload:
            raise typer.BadParameter(f"The key {key!r} occurs twice.", param_hint="'KEY=VALUE'")
        payload[key] = value
    return payload


def _parse_timestamp(text: str | None) -> datetime | None:
    from .time_ranges import parse_datetime  # noqa: PLC0415 - loads the domain

    return None if text is None else parse_datetime(text, "--timestamp", "UTC")
