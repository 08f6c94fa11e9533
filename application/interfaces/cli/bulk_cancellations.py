"""The command `cancel-many` and the commands `cancellation …`: bulk cancellations."""

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .bulk_cancellations_output import show_cancellation, show_cancellations, show_outcome
from .option_groups import DimensionOptions, SelectedTimeOptions, TableOptions, with_option_groups
from .options import (
    DEFAULT_LEDGER,
    AnyAgeOption,
    JsonOption,
    LedgerOption,
    MeterArgument,
    OnBehalfOfOption,
)
from .session import Session, interruptible, open_ledger
from .terminal import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from ...cancellation_views import BulkCancellationView, CancellationPreview

CustomerOption = Annotated[str | None, typer.Option("--customer", metavar="CUSTOMER", help="Of this customer only.")]
RecordedFromOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="Recorded at this time or later: an ISO date or datetime.")
]
RecordedUntilOption = Annotated[str | None, typer.Option(metavar="TIME", help="Recorded before this time.")]
ImportOption = Annotated[
    str | None,
    typer.Option("--import", metavar="RUN", help="Recorded by this import; 'tallybook import --list' shows them."),
]
PrefixOption = Annotated[
    str | None, typer.Option("--identifier-prefix", metavar="TEXT", help="With an identifier that begins with this.")
]
ReasonOption = Annotated[
    str | None, typer.Option(metavar="TEXT", help="The reason, stored in the ledger. Required with --yes.")
]
RequiredReasonOption = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="The reason, stored in the ledger.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Cancel them. Without it, only show what would be cancelled.")]
DigestOption = Annotated[
    str | None, typer.Option(metavar="DIGEST", help="Cancel them only if they are still those with this digest.")
]
LimitOption = Annotated[
    int, typer.Option("--limit", "-n", min=0, metavar="NUMBER", help="The maximum number of rows to show.")
]
OptionalMeterOption = Annotated[str | None, typer.Option("--meter", metavar="METER", help="Of this meter only.")]
CancellationArgument = Annotated[
    str, typer.Argument(metavar="ID", help="The id of the bulk cancellation.", show_default=False)
]

app = typer.Typer(help="List, resume and revoke bulk cancellations.", no_args_is_help=True)


@dataclass(frozen=True)
class RecordingOptions:
    """The options that select meter events by how they were recorded."""

    recorded_from: RecordedFromOption = None
    recorded_until: RecordedUntilOption = None
    import_run: ImportOption = None
    identifier_prefix: PrefixOption = None


@dataclass(frozen=True)
class CancellationOutcome:
    """What a command would cancel, for each meter, and the bulk cancellations if it did that."""

    previews: "Sequence[CancellationPreview]"
    cancellations: "Sequence[BulkCancellationView]"


@with_option_groups
def cancel_many(
    meter: MeterArgument,
    customer: CustomerOption = None,
    *,
    time: SelectedTimeOptions,
    recording: RecordingOptions,
    dimensions: DimensionOptions,
    reason: ReasonOption = None,
    by: OnBehalfOfOption = None,
    digest: DigestOption = None,
    any_age: AnyAgeOption = False,
    limit: LimitOption = 50,
    yes: YesOption = False,
    ledger: LedgerOption = DEFAULT_LEDGER,
    output: TableOptions,
) -> None:
    """Show which meter events would be cancelled, or cancel them.

    An event is selected if it matches all options; there is no default period. The preview has the total of each
    customer and month before and after. The events are cancelled as one decision with a reason, which
    'tallybook cancellation revoke' undoes.
    """
    require_approval(yes=yes, reason=reason, digest=digest)
    with open_ledger(ledger, output.as_json, lift=["cancel_window"] if any_age else []) as session:
        selection = parse_selection(session, customer, time, recording, dimensions)
        cancellations = session.metering.cancellations
        preview = cancellations.preview(meter, **selection, timezone=time.timezone)

        def cancel(progress: "Callable[[BulkCancellationView], None]") -> "Sequence[BulkCancellationView]":
            expected = digest or preview.digest
            return [
                cancellations.cancel_many(
                    meter, **selection, reason=reason or "", by=by, digest=expected, progress=progress
                )
            ]

        show = output.show(partial(show_outcome, time.timezone, limit), lambda tables: tables.cancellation_outcome)
        carry_out(session, [preview], cancel if yes else None, show)


@app.command("list")
@with_option_groups
def list_cancellations(
    *, meter: OptionalMeterOption = None, ledger: LedgerOption = DEFAULT_LEDGER, output: TableOptions
) -> None:
    """List bulk cancellations, oldest first."""
    with open_ledger(ledger, output.as_json) as session:
        cancellations = session.metering.cancellations.list(meter)
        session.print(cancellations, output.show(show_cancellations, lambda tables: tables.cancellations))


@app.command()
def resume(
    cancellation_id: CancellationArgument, ledger: LedgerOption = DEFAULT_LEDGER, as_json: JsonOption = False
) -> None:
    """Finish a bulk cancellation, or its revocation, that was interrupted."""
    with open_ledger(ledger, as_json) as session, _progress(session, "cancelling") as progress:
        bulk = session.metering.cancellations.resume(cancellation_id, progress=progress)
        session.confirm(bulk, show_cancellation)


@app.command()
def revoke(
    cancellation_id: CancellationArgument,
    reason: RequiredReasonOption,
    by: OnBehalfOfOption = None,
    any_age: AnyAgeOption = False,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Revoke a bulk cancellation: its meter events count again."""
    with (
        open_ledger(ledger, as_json, lift=["cancel_window"] if any_age else []) as session,
        _progress(session, "revoking") as progress,
    ):
        bulk = session.metering.cancellations.revoke(cancellation_id, reason=reason, by=by, progress=progress)
        session.confirm(bulk, show_cancellation)


def parse_selection(
    session: Session,
    customer: str | None,
    time: SelectedTimeOptions,
    recording: RecordingOptions,
    dimensions: DimensionOptions,
) -> dict[str, Any]:
    """Return the arguments of `cancel_many` that select meter events. Raises BadParameter."""
    from .time_ranges import parse_optional_datetime  # noqa: PLC0415 - loads the domain

    start = end = None
    if not time.is_default or time.anchor is not None:
        time_range, _ = session.time_range(time)
        start, end = time_range.start, time_range.end
    return {
        "customer": customer,
        "start": start,
        "end": end,
        "recorded_from": parse_optional_datetime(recording.recorded_from, "--recorded-from", time.timezone),
        "recorded_until": parse_optional_datetime(recording.recorded_until, "--recorded-until", time.timezone),
        "import_run": recording.import_run,
        "identifier_prefix": recording.identifier_prefix,
        "where": dimensions.parse(),
    }


def require_approval(*, yes: bool, reason: str | None, digest: str | None = None) -> None:
    """Raise BadParameter unless the options of an approved preview are used together."""
    if yes and reason is None:
        raise typer.BadParameter("--yes needs a --reason, which the ledger stores.")
    if digest is not None and not yes:
        raise typer.BadParameter("--digest needs --yes: it is the digest of the preview that you approve.")


def carry_out(
    session: Session,
    previews: "Sequence[CancellationPreview]",
    cancel: "Callable[[Callable[[BulkCancellationView], None]], Sequence[BulkCancellationView]] | None",
    show: "Callable[[CancellationOutcome], object]",
) -> None:
    """Print the previews and, if `cancel` is not None, cancel the events with a progress bar and print the result."""
    if cancel is None:
        session.print(CancellationOutcome(previews, ()), show)
        return
    with _progress(session, "cancelling") as progress:
        cancellations = cancel(progress)
    session.confirm(CancellationOutcome(previews, cancellations), show)


@contextmanager
def _progress(session: Session, task: str) -> "Generator[Callable[[BulkCancellationView], None]]":
    """Show the progress of a bulk cancellation. On Ctrl-C, print how to finish it."""
    last: list[BulkCancellationView] = []

    def describe_state() -> str:
        if not last:
            return "Interrupted. 'tallybook cancellation list' shows what was cancelled, if anything."
        bulk = last[-1]
        return f"Interrupted. 'tallybook cancellation resume {bulk.cancellation_id}' finishes it."

    with interruptible(session, describe_state), progress_bar(task) as advance:

        def show(bulk: "BulkCancellationView") -> None:
            last[:] = [bulk]
            advance(bulk.revoked if bulk.revoked_at else bulk.cancelled, bulk.count)

        yield show
