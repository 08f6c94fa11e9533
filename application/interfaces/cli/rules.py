"""The command `rules change` and its output."""

import shlex
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ..formatting import format_effective_from, format_number, format_rules
from .option_groups import TableOptions, with_option_groups
from .options import (
    DEFAULT_LEDGER,
    DifferenceLimitOption,
    DigestOption,
    EffectiveFromOption,
    LedgerOption,
    MeterArgument,
    OnBehalfOfOption,
    TimezoneOption,
)
from .projection import describe_interrupted_build, promote_generation
from .projection_output import LimitedDifference, Promotion, show_changed_totals, show_next_commands, show_promotion
from .rules_options import ChangedRulesOptions
from .session import Session, interruptible, open_for_query, print_error
from .tables import table
from .terminal import projection_progress, say

if TYPE_CHECKING:
    from ....domain.errors import IncompatibleRules
    from ....domain.rules import Rules
    from ...results import GenerationView

app = typer.Typer(
    help="Change the rules of a meter, also from a date on.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

COMPARISON_WINDOW = "month"
MAX_INCOMPATIBLE_EVENTS_SHOWN = 20
"""The number of incompatible meter events that are listed as text; the JSON lists more."""


@app.callback()
def rules() -> None:
    """Change the rules of a meter, also from a date on."""


ReasonOption = Annotated[
    str | None, typer.Option(metavar="TEXT", help="The reason, stored in the ledger. Required with --yes.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Change the rules. Without it, only show the difference.")]


@dataclass(frozen=True)
class RuleChange:
    """New rules of a meter for usage from `effective_from` on, None for all usage.

    `candidate` is the generation under these rules, with its difference from the live one, and its promotion if any.
    """

    event_name: str
    rules: "Rules"
    effective_from: datetime | None
    candidate: "GenerationView"
    difference: LimitedDifference
    promotion: Promotion | None


@app.command()
@with_option_groups
def change(
    meter: MeterArgument,
    *,
    new_rules: ChangedRulesOptions,
    effective_from: EffectiveFromOption = None,
    reason: ReasonOption = None,
    by: OnBehalfOfOption = None,
    digest: DigestOption = None,
    timezone: TimezoneOption = "UTC",
    limit: DifferenceLimitOption = 10,
    yes: YesOption = False,
    ledger: LedgerOption = DEFAULT_LEDGER,
    output: TableOptions,
) -> None:
    """Show what other rules would change, and change the rules with --yes.

    Builds a candidate generation of the read models and compares it with the live one, by month. Closed periods keep
    their totals. Usage before --effective-from keeps its rules, and later changes are replaced. Rules that no option
    names stay the same; one that changes later has to be named.
    """
    from .time_ranges import parse_optional_datetime  # noqa: PLC0415 - loads the domain

    changes = new_rules.arguments()
    if yes and reason is None:
        raise typer.BadParameter("--yes needs a --reason, which the ledger stores.")
    if digest is not None and not yes:
        raise typer.BadParameter("--digest needs --yes: it is the digest of the difference that you approve.")
    with open_for_query(ledger, output.as_json) as session:
        start = parse_optional_datetime(effective_from, "--effective-from", timezone)
        candidate = _build_candidate(session, meter, changes, start)
        difference = _compare(session, meter, candidate, timezone, limit)
        promotion = promote_generation(session.metering, candidate.number, reason, by, digest) if yes else None
        rule_change = RuleChange(
            meter, candidate.rules[meter], candidate.effective_from[meter], candidate, difference, promotion
        )
        show = session.confirm if promotion else session.print
        show(rule_change, output.show(partial(show_change, reason, by), lambda tables: tables.rule_change))


def _build_candidate(
    session: Session, event_name: str, changes: Mapping[str, object], effective_from: datetime | None
) -> "GenerationView":
    """Build a generation under other rules for a meter from a time on, or return the existing one."""
    with (
        reported_incompatible_events(session),
        interruptible(session, partial(describe_interrupted_build, session, (event_name,))),
        projection_progress("building a candidate") as progress,
    ):
        return session.metering.generations.build_candidate(
            event_name, changes, effective_from=effective_from, progress=progress
        )


@contextmanager
def reported_incompatible_events(session: Session) -> Generator[None]:
    """Print the recorded meter events that new rules reject, and end the command with exit status 1."""
    from ....domain.errors import IncompatibleRules  # noqa: PLC0415 - loads the domain

    try:
        yield
    except IncompatibleRules as error:
        print_error(error, as_json=session.as_json, count=error.count, events=error.events)
        if not session.as_json:
            show_incompatible_events(error)
        raise typer.Exit(1) from None


def _compare(
    session: Session, event_name: str, candidate: "GenerationView", timezone: str, limit: int
) -> LimitedDifference:
    """Return the difference of the candidate by month, without the meters that neither change nor differ."""
    difference = session.metering.generations.diff(candidate.number, window=COMPARISON_WINDOW, timezone=timezone)
    meters = tuple(meter for meter in difference.meters if meter.event_name == event_name or meter.customers)
    return replace(LimitedDifference.from_difference(difference, COMPARISON_WINDOW, timezone, limit), meters=meters)


def show_change(reason: str | None, by: str | None, change: RuleChange) -> None:
    """Print what the rules change, and the next commands or the promotion."""
    candidate = change.candidate
    location = f"generation {candidate.number}, up to position {format_number(candidate.position)}"
    rules = format_rules(change.rules) + format_effective_from(change.effective_from)
    say(f"{change.event_name} counted by {rules}, in {location}")
    show_changed_totals(change.difference)
    say()
    if change.promotion is not None:
        show_promotion(change.promotion)
        return
    say("Nothing is changed yet.")
    quoted_reason = "..." if reason is None else shlex.quote(reason)
    by_option = "" if by is None else f" --on-behalf-of {shlex.quote(by)}"
    show_next_commands(candidate.number, f" --reason {quoted_reason}{by_option}")


def show_incompatible_events(error: "IncompatibleRules") -> None:
    """Print the first meter events that the new rules reject."""
    shown = error.events[:MAX_INCOMPATIBLE_EVENTS_SHOWN]
    rows = [(format_number(event.position), event.identifier, event.code, event.message) for event in shown]
    table(("position", "identifier", "code", "message"), rows, right=("position",))
    if error.count > len(shown):
        say(f"and {format_number(error.count - len(shown))} more.")
