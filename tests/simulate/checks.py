"""What is looked at after each step, and, now and then, in full."""

from typing import TYPE_CHECKING, Any

from tallybook.application import Metering

from . import questions
from .choosing import WHOLE
from .done import Differs, Done
from .questions import Ask

if TYPE_CHECKING:
    from .world import World

MOST_NOTES = 6


class Notes:
    """Answers that were noted with the position they were given at: asked as of it, they stay."""

    def __init__(self) -> None:
        self.noted: list[tuple[int, str, Any]] = []


def after_a_step(world: "World", metering: Metering) -> int:
    """One question, chosen by the seed, one figure as of a noted position, and that no row has changed."""
    if not world.book.meters(world.book.head):
        return 0
    _answered(world, metering, world.chooser.question())
    return 1 + _noted(world, metering)


def everything(world: "World", metering: Metering) -> int:
    """All rows, all figures, all that is told of them, and a fresh fold."""
    book = world.book
    if world.place.rows(0) != book.rows:
        raise Differs("Rows of the ledger have changed.")
    asks = [questions.meters(), questions.verify()]
    for name in sorted(book.meters(book.head)):
        asks += [
            questions.totals(name, WHOLE),
            questions.explanation(name, None, WHOLE),
            questions.events(name),
            questions.closed_periods(name),
            questions.adjustments(name),
        ]
    for ask in asks:
        _answered(world, metering, ask)
    return len(asks)


def _answered(world: "World", metering: Metering, ask: Ask) -> None:
    done = Done(world.book, [world.book.head], [world.clock.now])
    done.value = ask.do(metering)
    ask.judge(done)


def _noted(world: "World", metering: Metering) -> int:
    """Note a figure, and ask for one that was noted."""
    notes, book = world.notes.noted, world.book
    name = world.rng.choice(sorted(book.meters(book.head)))
    notes.append((book.head, name, metering.totals(name, *WHOLE)))
    if len(notes) > MOST_NOTES:
        del notes[world.rng.randrange(len(notes))]
    position, name, told = world.rng.choice(notes)
    found = metering.totals(name, *WHOLE, as_of=position)
    if found != told:
        raise Differs(f"As of position {position}, {name!r} was {told!r}, and is {found!r} now.")
    return 1
