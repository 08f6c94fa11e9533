"""A run of a command: opens the ledger, prints results and errors, handles Ctrl-C.

Importing this module does not import the domain, so that `--help` starts quickly.
"""

import os
import sys
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

import typer

from ..formatting import to_json
from . import terminal
from .error_text import to_cli_text
from .output import OutputError, discard_output

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from ....domain.acceptance_policy import AcceptancePolicy
    from ....domain.errors import TallybookError
    from ...metering import Metering
    from .option_groups import DimensionOptions, TimeRangeOptions
    from .time_ranges import TimeRange

Result = TypeVar("Result")
LiftedLimit = Literal["max_age", "max_digits", "cancel_window"]

EXIT_INTERRUPTED = 130
"""The exit status that shells use for a command that Ctrl-C ended."""


@dataclass(frozen=True, slots=True)
class Session:
    """An open ledger and the output format."""

    metering: "Metering"
    as_json: bool

    def print(self, result: Result, show: Callable[[Result], object]) -> None:
        """Print a result: as JSON, or with `show` as text."""
        print_result(result, show, as_json=self.as_json)

    def confirm(self, result: Result, show: Callable[[Result], object]) -> None:
        """Print the result of a change. See `confirm_result`."""
        confirm_result(result, show, as_json=self.as_json)

    def print_problem(self, code: str, message: str) -> None:
        """Print on stderr what went wrong besides the result."""
        _print_error({"code": code, "message": message, "field": None}, as_json=self.as_json)

    def time_range(
        self, options: "TimeRangeOptions", as_of: str | None = None, dimensions: "DimensionOptions | None" = None
    ) -> "tuple[TimeRange, datetime | int | None]":
        """Return the time range and the `as_of` that the options select. Its label names the selected dimensions too.

        Raises UnknownTimezone, and BadParameter if an option cannot be parsed.
        """
        from ...clock import utc_now  # noqa: PLC0415 - loads the domain
        from .time_ranges import parse_as_of, parse_time_range  # noqa: PLC0415

        time_range = parse_time_range(options, now=utc_now())
        parsed_as_of = parse_as_of(as_of, options.timezone, self.metering.catch_up)
        label = time_range.label + (dimensions.label if dimensions else "") + (f", as of {as_of}" if as_of else "")
        return time_range._replace(label=label), parsed_as_of


@contextmanager
def open_ledger(
    url: str,
    as_json: bool,
    *,
    create: bool = False,
    lift: Collection[LiftedLimit] = (),
    grace_period: "timedelta | None" = None,
) -> Generator[Session]:
    """Open the ledger at `url`. A TallybookError in the block is printed and ends the command with exit status 1.

    The user of the operating system who runs the command is the author of its events.

    A missing ledger is created only if `create` is set, so that a typing error in its name does not create another.
    `lift` names the limits of the policy to remove; `grace_period` is the policy's default if None.
    """
    from ....domain.authorship import COMMAND_LINE, Author, acting_as  # noqa: PLC0415 - loads the domain
    from ...metering import Metering  # noqa: PLC0415
    from ...system_user import system_user  # noqa: PLC0415
    from .access_log import access_log_file  # noqa: PLC0415

    with reported_errors(as_json=as_json), acting_as(Author(system_user(), COMMAND_LINE)):
        if not create:
            require_ledger(url)
        with (
            access_log_file(os.environ) as customers,
            Metering.open(url, policy=_policy(lift, grace_period), access_log_customers=customers) as metering,
            _suggested_meters(metering),
        ):
            yield Session(metering, as_json)


@contextmanager
def open_for_query(
    url: str, as_json: bool, *, lift: Collection[LiftedLimit] = (), grace_period: "timedelta | None" = None
) -> Generator[Session]:
    """Open the ledger at `url` and bring its read models up to date, with a progress bar."""
    with open_ledger(url, as_json, lift=lift, grace_period=grace_period) as session:
        with terminal.projection_progress("projecting") as progress:
            session.metering.catch_up(progress)
        yield session


@contextmanager
def reported_errors(*, as_json: bool) -> Generator[None]:
    """Print a TallybookError that the block raises, and end the command with exit status 1; with 130 on Ctrl-C."""
    from ....domain.errors import TallybookError  # noqa: PLC0415 - loads the domain

    try:
        yield
    except TallybookError as error:
        print_error(error, as_json=as_json)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise _interrupted("Interrupted.", as_json=as_json) from None


@contextmanager
def _suggested_meters(metering: "Metering") -> Generator[None]:
    """Add the names of similar meters to the message of a MeterNotFound that the block raises."""
    from ....domain.errors import MeterNotFound  # noqa: PLC0415 - loads the domain
    from ...similar_names import suggest_names  # noqa: PLC0415

    try:
        yield
    except MeterNotFound as error:
        names = (meter.event_name for meter in metering.meters.list())
        suggestion = suggest_names("meters", str(error.value), names)
        if suggestion in error.message:
            raise
        raise MeterNotFound(error.message + suggestion, field=error.field, value=error.value) from error


@contextmanager
def interruptible(session: Session, describe_state: Callable[[], str]) -> Generator[None]:
    """On Ctrl-C, print what `describe_state` returns as an error, and end the command with exit status 130."""
    try:
        yield
    except KeyboardInterrupt:
        raise _interrupted(describe_state(), as_json=session.as_json) from None


def _interrupted(message: str, *, as_json: bool) -> typer.Exit:
    """Print a message, and return the exit of the command that Ctrl-C ended."""
    discard_output()
    _print_error({"code": "interrupted", "message": message, "field": None}, as_json=as_json)
    return typer.Exit(EXIT_INTERRUPTED)


def print_result(result: Result, show: Callable[[Result], object], *, as_json: bool) -> None:
    """Print a result: as JSON, or with `show` as text."""
    if as_json:
        typer.echo(json_text(result))
    else:
        show(result)


def json_text(result: object) -> str:
    """Return a result as JSON that stdout can represent."""
    return to_json(result, ascii_only=not terminal.can_print_unicode())


def confirm_result(result: Result, show: Callable[[Result], object], *, as_json: bool) -> None:
    """Print the result of a change. If that fails, say so on stderr; the exit status is that of the change."""
    try:
        print_result(result, show, as_json=as_json)
    except OutputError as error:
        message = f"The command has done its work, but its output could not be written: {error}."
        _print_error({"code": "output_error", "message": message, "field": None}, as_json=as_json)


def print_error(error: "TallybookError", *, as_json: bool, **details: object) -> None:
    """Print an error on stderr: as one line, or as one JSON document that contains `details` too."""
    _print_error({**error.as_dict(), "message": to_cli_text(error.message, error.field), **details}, as_json=as_json)


def _print_error(error: Mapping[str, object], *, as_json: bool) -> None:
    from ...redaction import redact  # noqa: PLC0415 - loads pydantic

    sys.stdout.flush()
    error = {**error, "message": redact(str(error["message"]))}
    line = f"tallybook: {error['code']}: {terminal.printable(str(error['message']))}"
    with suppress(OSError):  # the exit status reports the error too
        typer.echo(to_json({"error": error}) if as_json else line, err=True)


def require_ledger(url: str) -> None:
    """Raise LedgerUnavailable if there is no ledger at `url`."""
    from ....domain.errors import LedgerUnavailable  # noqa: PLC0415 - loads the domain
    from ...storage.url import resolve_store  # noqa: PLC0415

    store = resolve_store(url)
    if store.is_persistent and not store.exists():
        raise LedgerUnavailable(
            f"There is no ledger at {store.location}. Create one with 'tallybook meter configure'.", field="url"
        )


def record_limits(backfill: bool, any_digits: bool) -> list[LiftedLimit]:
    """Return the limits of the policy that the options of recording commands remove."""
    options: dict[LiftedLimit, bool] = {"max_age": backfill, "max_digits": any_digits}
    return [limit for limit, is_lifted in options.items() if is_lifted]


def _policy(lift: Collection[LiftedLimit], grace_period: "timedelta | None") -> "AcceptancePolicy":
    from ....domain.acceptance_policy import AcceptancePolicy  # noqa: PLC0415 - loads the domain

    policy = AcceptancePolicy() if grace_period is None else AcceptancePolicy(grace_period=grace_period)
    return policy.model_copy(update=dict.fromkeys(lift))
