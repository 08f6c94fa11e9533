"""The command `verify` and its output."""

from typing import TYPE_CHECKING, Annotated

import typer

from ..formatting import format_count, format_number, format_time
from .checkpoints_output import show_verification as show_checkpoint_verification
from .option_groups import TableOptions, with_option_groups
from .options import DEFAULT_LEDGER, LedgerOption, PublicKeyOption, VerifyCheckpointsOption
from .session import json_text, open_for_query
from .tables import table
from .terminal import format_name, progress_bar, projection_progress, say

if TYPE_CHECKING:
    from ...archive.results import ArchiveComparison
    from ...queries.control_totals import ControlTotalDifference
    from ...queries.verification import PeriodDifference, RowDifference, Verification

WitnessesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--witness",
        metavar="KEY",
        help="The public key, or its file, of a witness that must have cosigned the last checkpoint. Repeatable.",
    ),
]
_DIGEST_CHARACTERS = 12
"""The number of characters of a SHA-256 that are shown as text; the JSON has all of them."""
_SHOWN_DIFFERENCES = 10
ArchiveOption = Annotated[
    str | None,
    typer.Option(metavar="DEST", help="Compare with totals that DuckDB computes from this archive: a folder or a URL."),
]


@with_option_groups
def verify(
    *,
    checkpoints: VerifyCheckpointsOption = None,
    key: PublicKeyOption = None,
    witness: WitnessesOption = None,
    archive: ArchiveOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    output: TableOptions,
) -> None:
    """Compare all totals with totals recomputed from the ledger.

    Compares the live read models row by row, the frozen totals of closed periods, and the control totals of billing
    runs. With --checkpoints, compares the ledger with its checkpoints first. With --archive, DuckDB recomputes the
    totals and the digests of closed periods from an archive instead, by SQL. The exit status is 1 if anything differs;
    the output names the first difference.
    """
    if archive is not None:
        if checkpoints is not None or key is not None:
            raise typer.BadParameter("--archive and --checkpoints are two verifications; run one after the other.")
        _verify_with_archive(archive, ledger, output)
        return
    if checkpoints is None and (key is not None or witness):
        raise typer.BadParameter("A key or a witness needs --checkpoints.", param_hint="'--key' / '--witness'")
    checkpoint_verification = None
    if checkpoints is not None:
        from .checkpoints import verify_checkpoints  # noqa: PLC0415 - loads the domain

        checkpoint_verification = verify_checkpoints(ledger, output.as_json, checkpoints, key, witness or ())
        if output.is_text or (output.as_csv and checkpoint_verification.difference is not None):
            show_checkpoint_verification(checkpoint_verification)
        if checkpoint_verification.difference is not None:  # totals of a changed ledger prove nothing
            if output.as_json:
                typer.echo(json_text({"checkpoints": checkpoint_verification}))
            raise typer.Exit(1)
    with open_for_query(ledger, output.as_json) as session:
        with projection_progress("recomputing") as progress:
            verification = session.metering.verify(progress)
        if checkpoint_verification is not None and output.as_json:
            typer.echo(json_text({"checkpoints": checkpoint_verification, "totals": verification}))
        else:
            session.print(verification, output.show(show_verification, lambda tables: tables.verification))
    if not verification.is_equal:
        raise typer.Exit(1)


def _verify_with_archive(destination: str, ledger: str, output: TableOptions) -> None:
    with open_for_query(ledger, output.as_json) as session:
        with progress_bar("comparing") as advance:
            comparison = session.metering.verify_with_archive(destination, advance)
        session.print(comparison, output.show(show_comparison, lambda tables: tables.archive_comparison))
    if not comparison.is_equal:
        raise typer.Exit(1)


def show_comparison(comparison: "ArchiveComparison") -> None:
    """Print how many totals were compared with an archive, and those that differ."""
    say(f"{format_count(comparison.totals, 'total')} and {format_count(comparison.closed_periods, 'closed period')} "
        f"compared with {comparison.destination}, as of position {format_number(comparison.position)}")  # fmt: skip
    if comparison.is_equal:
        say("all equal")
    for difference in comparison.differences[:_SHOWN_DIFFERENCES]:
        start, end = format_time(difference.start), format_time(difference.end)
        say()
        say(f"{difference.event_name}, {format_name(difference.customer)}, {start} to {end} differs")
        say(f"  found     {difference.found or 'none'}")
        say(f"  expected  {difference.expected or 'none'}")
    if comparison.difference_count > _SHOWN_DIFFERENCES:
        more = format_count(comparison.difference_count - _SHOWN_DIFFERENCES, "more difference")
        say(f"and {more}; --json lists up to 100.")


def show_verification(verification: "Verification") -> None:
    """Print the digest of each table and of its recomputed form, and the first difference of each."""
    say(f"Generation {verification.generation}, up to position {format_number(verification.position)} of the ledger")
    rows = [
        (compared.table, format_number(compared.rows), compared.digest[:_DIGEST_CHARACTERS],
         compared.expected_digest[:_DIGEST_CHARACTERS], "equal" if compared.is_equal else "DIFFERS")
        for compared in verification.tables
    ]  # fmt: skip
    table(("table", "rows", "SHA-256", "recomputed", ""), rows, right=("rows",), whole=("SHA-256", "recomputed"))
    differing = len(verification.differing_periods)
    periods = format_count(verification.closed_periods, "closed period")
    say(f"{periods}, {format_count(differing, 'differs', 'differ') if differing else 'none differs'}")
    if verification.billing_runs:
        differing = len({difference.run for difference in verification.differing_runs})
        runs = format_count(verification.billing_runs, "billing run")
        say(f"{runs}, {format_count(differing, 'differs', 'differ') if differing else 'none differs'}")
    if verification.missing_triggers:
        names = ", ".join(verification.missing_triggers)
        say(f"Triggers that protect stored events are missing or disabled: {names}")
    for table_verification in verification.tables:
        if table_verification.difference is not None:
            _show_row_difference(table_verification.difference)
    for period_difference in verification.differing_periods:
        _show_period_difference(period_difference)
    for run_difference in verification.differing_runs:
        _show_run_difference(run_difference)
    if any(not table_verification.is_equal for table_verification in verification.tables):
        say()
        say("Run 'tallybook projection rebuild' to build the read models again from the ledger, then promote them.")


def _show_row_difference(difference: "RowDifference") -> None:
    say()
    say(f"{difference.table} differs first at {difference.key}")
    say(f"  found     {difference.found or 'no such row'}")
    say(f"  expected  {difference.expected or 'no such row'}")


def _show_run_difference(difference: "ControlTotalDifference") -> None:
    say()
    say(f"The control total of billing run {difference.run} on {difference.event_name} differs")
    for label, total in (("found", difference.found), ("expected", difference.expected)):
        text = (
            "none" if total is None else ", ".join(f"{name} {value}" for name, value in total if name != "event_name")
        )
        say(f"  {label:<10}{text}")


def _show_period_difference(difference: "PeriodDifference") -> None:
    from zoneinfo import ZoneInfo  # noqa: PLC0415

    from ..calendar_periods import format_period  # noqa: PLC0415 - loads the domain

    period = difference.period
    name = format_period(period.start, period.end, ZoneInfo("UTC"))
    say()
    say(f"The closed period {name} (UTC) of {format_name(period.customer)} on {period.event_name} differs")
    for label, totals in (("frozen", period), ("expected", difference.expected)):
        events, digest = format_count(totals.count, "event"), totals.digest[:_DIGEST_CHARACTERS]
        say(f"  {label:<10}{format_number(totals.quantity)} of {events}, SHA-256 {digest}")
