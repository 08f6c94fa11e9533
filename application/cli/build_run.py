"""Building a generation: progress shown, an interruption told, and payloads that can't be read."""

from collections.abc import Collection, Mapping
from functools import partial

import typer

from ...domain.errors import RulesCannotRead
from ...projections.generations import GenerationState
from ..results import GenerationView
from . import terminal
from .interruption import interruptible
from .rule_tables import show_unreadable
from .session import Session, told


def run_rebuild(session: Session) -> GenerationView:
    """Build a generation under the rules in force, beside the live one."""
    with (
        interruptible(session, partial(_left_behind, session, ())),
        terminal.folding("rebuilding") as progress,
    ):
        return session.metering.rebuild(progress=progress)


def run_candidate(session: Session, event_name: str, rules: Mapping[str, object]) -> GenerationView:
    """Build a generation that counts a meter by other rules, or find the one that stands ready.

    Where recorded payloads can't be read by the rules, list them and end the command with status 1.
    """
    try:
        with (
            interruptible(session, partial(_left_behind, session, (event_name,))),
            terminal.folding("building a candidate") as progress,
        ):
            return session.metering.candidate(event_name, rules, progress=progress)
    except RulesCannotRead as error:
        told(error, in_json=session.as_json, count=error.count, uses=error.uses)
        if not session.as_json:
            show_unreadable(error)
        raise typer.Exit(1) from None


def _left_behind(session: Session, event_names: Collection[str]) -> str:
    """What stands there of the generation that was being built, under other rules for meters of these names."""
    unfinished = [
        one
        for one in session.metering.generations()
        if one.state is GenerationState.BUILDING and set(one.rules) == set(event_names)
    ]
    if not unfinished:
        return "Interrupted before anything was built. The live read models are untouched."
    one = unfinished[-1]
    return (
        f"Interrupted at position {one.position:,} of {one.head:,} in generation {one.number}. "
        "The live read models are untouched. The same command goes on with it; "
        f"'tallybook projection drop {one.number}' does away with it."
    )
