"""One run of a command: the ledger it asks, and how it answers or is refused."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

import typer

from . import terminal
from .plain import as_json

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from ...domain.errors import TallybookError
    from ...domain.policy import AcceptancePolicy
    from ..metering import Metering
    from .periods import Span

Answer = TypeVar("Answer")
Lifted = Literal["max_age", "cancel_window"]


@dataclass(frozen=True, slots=True)
class Session:
    """An open ledger, and whether to answer in JSON."""

    metering: "Metering"
    as_json: bool

    def answer(self, value: Answer, show: Callable[[Answer], None]) -> None:
        """Print an answer: as JSON, or as `show` shows it to people."""
        if self.as_json:
            typer.echo(as_json(value))
        else:
            show(value)

    def asked(
        self,
        period: str | None,
        start: str | None,
        end: str | None,
        timezone: str,
        as_of: str | None = None,
        anchor: str | None = None,
    ) -> "tuple[Span, datetime | int | None]":
        """The time asked about, and as of when. Wrong usage where it can't be read."""
        from ..metering import utc_now  # noqa: PLC0415 - loads the domain
        from .periods import asked_as_of, asked_span  # noqa: PLC0415

        span = asked_span(period, start, end, timezone, now=utc_now(), anchor=anchor)
        known = asked_as_of(as_of, timezone)
        return (span if as_of is None else span._replace(shown=f"{span.shown}, as of {as_of}")), known


@contextmanager
def opened(
    url: str, as_json: bool, *, begin: bool = False, lift: Lifted | None = None, grace: "timedelta | None" = None
) -> Generator[Session]:
    """Open the ledger at `url`; a refusal meanwhile is told on stderr and ends the command with status 1.

    Only where `begin` is set a ledger that isn't there is begun: a slip in its name should not make another.
    `lift` names the limit of the policy that doesn't hold; `grace` is the policy's own where None.
    """
    from ...domain.errors import TallybookError  # noqa: PLC0415 - loads the domain
    from ..metering import Metering  # noqa: PLC0415

    try:
        if not begin:
            check_presence(url)
        with Metering.open(url, policy=_policy(lift, grace)) as metering:
            yield Session(metering, as_json)
    except TallybookError as error:
        told(error, in_json=as_json)
        raise typer.Exit(1) from None


@contextmanager
def asking(url: str, as_json: bool, *, grace: "timedelta | None" = None) -> Generator[Session]:
    """Open the ledger at `url` for a question, its read models brought up to date with a progress bar."""
    with opened(url, as_json, grace=grace) as session:
        with terminal.folding("folding in") as progress:
            session.metering.catch_up(progress)
        yield session


def told(error: "TallybookError", *, in_json: bool, **details: object) -> None:
    """Tell a refusal on stderr, in one line or as one JSON document, which has the details too."""
    sys.stdout.flush()
    line = f"tallybook: {error.code}: {terminal.printable(error.message)}"
    typer.echo(as_json({"error": {**error.as_dict(), **details}}) if in_json else line, err=True)


def check_presence(url: str) -> None:
    """Raise LedgerUnavailable where there is no ledger at `url`."""
    from ...domain.errors import LedgerUnavailable  # noqa: PLC0415
    from ..ledger_url import locate  # noqa: PLC0415

    store = locate(url)
    if store.is_lasting and not store.exists():
        raise LedgerUnavailable(
            f"There is no ledger at {store.place}; 'tallybook meter configure' begins one.", field="url"
        )


def _policy(lift: Lifted | None, grace: "timedelta | None") -> "AcceptancePolicy":
    from ...domain.policy import AcceptancePolicy  # noqa: PLC0415

    limits = AcceptancePolicy() if grace is None else AcceptancePolicy(grace=grace)
    return limits.model_copy(update={lift: None} if lift else {})
