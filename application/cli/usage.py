"""The commands that record usage and cancel it."""

from typing import TYPE_CHECKING, Annotated

import typer

from . import notices
from .options import DEFAULT_LEDGER, AsJson, Backfill, By, Ledger, Meter
from .session import opened

if TYPE_CHECKING:
    from datetime import datetime

Payload = Annotated[
    list[str],
    typer.Argument(metavar="KEY=VALUE", help="The payload: the customer, the value and more.", show_default=False),
]
Identifier = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="Your unique name for this use: sent again, it is counted once."),
]
Timestamp = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="When the use happened: an ISO date or datetime, UTC without an offset. Or now."),
]
Cancelled = Annotated[str, typer.Argument(metavar="IDENTIFIER", help="The meter event's name.", show_default=False)]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Why it should count no more.")]
AnyAge = Annotated[bool, typer.Option("--any-age", help="Cancel what was recorded longer than 24 hours ago, too.")]


def record(
    meter: Meter,
    payload: Payload,
    identifier: Identifier = None,
    timestamp: Timestamp = None,
    backfill: Backfill = False,
    ledger: Ledger = DEFAULT_LEDGER,
    as_json: AsJson = False,
) -> None:
    """Record one use of a meter.

    For example: tallybook record tokens customer=acme tokens=25 --identifier req-1
    """
    pairs = _pairs(payload)
    with opened(ledger, as_json, lift="max_age" if backfill else None) as session:
        at = _timestamp(timestamp)
        session.answer(
            session.metering.record(meter, pairs, identifier=identifier, timestamp=at),
            notices.show_receipt,
        )


def cancel(
    meter: Meter,
    identifier: Cancelled,
    reason: Reason = None,
    by: By = None,
    any_age: AnyAge = False,
    ledger: Ledger = DEFAULT_LEDGER,
    as_json: AsJson = False,
) -> None:
    """Let a meter event count no more.

    It counts as if it had never been reported; the ledger keeps it, with who asked and why.
    """
    with opened(ledger, as_json, lift="cancel_window" if any_age else None) as session:
        session.answer(session.metering.cancel(meter, identifier, reason=reason, by=by), notices.show_cancellation)


def _pairs(given: list[str]) -> dict[str, str]:
    payload: dict[str, str] = {}
    for pair in given:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE.", param_hint="'KEY=VALUE'")
        if key in payload:
            raise typer.BadParameter(f"{key!r} is given twice.", param_hint="'KEY=VALUE'")
        payload[key] = value
    return payload


def _timestamp(text: str | None) -> "datetime | None":
    from .periods import asked_moment  # noqa: PLC0415 - loads the domain

    return None if text is None else asked_moment(text, "--timestamp", "UTC")
