"""The `propose` commands: propose a change, which takes effect when somebody else approves it."""

from datetime import timedelta
from typing import Annotated

import typer

from .bulk_cancellations import CancellationArgument, CustomerOption, RecordingOptions, parse_selection
from .option_groups import ClosedPeriodOptions, DimensionOptions, SelectedTimeOptions, with_option_groups
from .options import (
    DEFAULT_LEDGER,
    AnyAgeOption,
    EffectiveFromOption,
    JsonOption,
    LedgerOption,
    MeterArgument,
    OnBehalfOfOption,
    TimezoneOption,
)
from .periods import RequiredCustomerArgument, WithdrawOption, require_period
from .proposals_output import show_proposal
from .rules_options import ChangedRulesOptions
from .session import open_for_query, open_ledger

app = typer.Typer(
    help="Propose a change that somebody else approves.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ReasonOption = Annotated[str, typer.Option(metavar="TEXT", help="The reason, stored in the ledger.")]
ExpiresOption = Annotated[
    int, typer.Option("--expires-after", min=1, max=90, metavar="DAYS", help="The days until the proposal expires.")
]
KindsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--require",
        metavar="KIND",
        help="A kind of changes that needs approval: rules, reopening or cancellation. Repeatable. None by default.",
    ),
]


@app.command("rules")
@with_option_groups
def propose_rules(
    meter: MeterArgument,
    *,
    new_rules: ChangedRulesOptions,
    effective_from: EffectiveFromOption = None,
    reason: ReasonOption,
    by: OnBehalfOfOption = None,
    expires_after: ExpiresOption = 7,
    timezone: TimezoneOption = "UTC",
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Propose to change the rules of a meter. The options are those of 'tallybook rules change'."""
    from .time_ranges import parse_optional_datetime  # noqa: PLC0415 - loads the domain

    changes = new_rules.arguments()
    with open_ledger(ledger, as_json) as session:
        start = parse_optional_datetime(effective_from, "--effective-from", timezone)
        proposal = session.metering.proposals.propose_rules(
            meter, changes, reason=reason, by=by, effective_from=start, expires_after=timedelta(days=expires_after)
        )
        session.confirm(proposal, show_proposal)


@app.command("reopening")
@with_option_groups
def propose_reopening(
    meter: MeterArgument,
    customer: RequiredCustomerArgument,
    *,
    reason: ReasonOption,
    by: OnBehalfOfOption = None,
    withdraw_settlements: WithdrawOption = False,
    expires_after: ExpiresOption = 7,
    time: ClosedPeriodOptions,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Propose to reopen a closed period. The options are those of 'tallybook period reopen'."""
    require_period(time)
    with open_ledger(ledger, as_json) as session:
        span, _ = session.time_range(time)
        proposal = session.metering.proposals.propose_reopening(
            meter, customer, span.start, span.end, reason=reason, by=by, withdraw_settlements=withdraw_settlements,
            expires_after=timedelta(days=expires_after),
        )  # fmt: skip
        session.confirm(proposal, show_proposal)


@app.command("cancellation")
@with_option_groups
def propose_cancellation(
    meter: MeterArgument,
    customer: CustomerOption = None,
    *,
    time: SelectedTimeOptions,
    recording: RecordingOptions,
    dimensions: DimensionOptions,
    reason: ReasonOption,
    by: OnBehalfOfOption = None,
    any_age: AnyAgeOption = False,
    expires_after: ExpiresOption = 7,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Propose to cancel the meter events that match all options. They are those of 'tallybook cancel-many'."""
    with open_for_query(ledger, as_json, lift=["cancel_window"] if any_age else []) as session:
        proposal = session.metering.proposals.propose_cancellation(
            meter, **parse_selection(session, customer, time, recording, dimensions), reason=reason, by=by,
            expires_after=timedelta(days=expires_after),
        )  # fmt: skip
        session.confirm(proposal, show_proposal)


@app.command("revocation")
def propose_revocation(
    cancellation_id: CancellationArgument,
    reason: ReasonOption,
    by: OnBehalfOfOption = None,
    expires_after: ExpiresOption = 7,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Propose to revoke a bulk cancellation."""
    with open_ledger(ledger, as_json) as session:
        proposal = session.metering.proposals.propose_revocation(
            cancellation_id, reason=reason, by=by, expires_after=timedelta(days=expires_after)
        )
        session.confirm(proposal, show_proposal)


@app.command("policy")
def propose_policy(
    reason: ReasonOption,
    kinds: KindsOption = None,
    by: OnBehalfOfOption = None,
    expires_after: ExpiresOption = 7,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Propose which kinds of changes need approval; none without --require."""
    with open_ledger(ledger, as_json) as session:
        proposal = session.metering.proposals.propose_policy(
            kinds or (), reason=reason, by=by, expires_after=timedelta(days=expires_after)
        )
        session.confirm(proposal, show_proposal)
