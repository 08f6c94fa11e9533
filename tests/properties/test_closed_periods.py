"""Whatever is closed, reopened, late, cancelled and counted otherwise: frozen figures stay, what is owed is exact."""

from datetime import datetime
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.application import Adjustment, ClosedPeriod

from .closings import (
    CANCELS,
    NAMES,
    RANGE,
    RECORDS,
    RULES,
    TILES,
    ZONES,
    Book,
    Closing,
    Rules,
    Step,
    book_of,
    histories,
    quantity,
    stands,
    tell,
)


@settings(max_examples=100)
@given(RULES, histories())
def test_frozen_figures_stay_and_what_is_owed_is_what_plain_loops_say(rules: Rules, history: list[Step]) -> None:
    """Of each standing period: the figure, the difference, every event behind it, and what other rules make of it."""
    with book_of(rules) as book:
        tell(book, history)
        closed = book.metering.closed_periods("calls")
        in_order = sorted(book.closings, key=lambda one: (one.customer, one.bounds))
        assert closed == [one.answered for one in in_order]
        owed = {(one.period.customer, one.period.start): one for one in book.metering.adjustments("calls")}
        for one in in_order:
            check(book, one, owed.pop((one.customer, one.bounds[0]), None))
            assert book.metering.close_period("calls", one.customer, *one.bounds) == one.answered
        assert owed == {}


def check(book: Book, closing: Closing, owed: Adjustment | None) -> None:
    """Hold what is owed on a closing."""
    asked = closing.rules, closing.customer, closing.bounds
    before, now = stands(book.kept[: closing.known], *asked), stands(book.kept, *asked)
    touched = {name: stood for name, stood in now.items() if before.get(name) != stood}
    figure = quantity(book.kept, *asked)
    by_rules = quantity(book.kept, book.rules, closing.customer, closing.bounds) - figure
    if owed is None:
        assert (touched, by_rules) == ({}, 0)
        return
    assert (owed.period, owed.position) == (closing.answered, book.metering.catch_up())
    assert Fraction(owed.quantity) == figure
    assert Fraction(owed.billable) == max(figure, 0)
    assert Fraction(owed.difference) == figure - Fraction(closing.answered.quantity)
    assert Fraction(owed.difference) == sum(Fraction(event.change) for event in owed.events)
    assert Fraction(owed.billable_difference) == max(figure, 0) - Fraction(closing.answered.billable)
    assert Fraction(owed.rules_difference) == by_rules
    assert {one.identifier for one in owed.events} == set(touched)
    assert [(one.occurred_at, one.position) for one in owed.events] == sorted(
        (one.occurred_at, one.position) for one in owed.events
    )
    for event in owed.events:
        verdict, adds = before.get(event.identifier, (None, Fraction(0)))
        assert event.before == verdict
        assert (event.verdict, Fraction(event.change)) == (now[event.identifier][0], now[event.identifier][1] - adds)


Answers = tuple[list[ClosedPeriod], list[Adjustment], list[Adjustment]]


def answers(book: Book, as_of: int | datetime | None) -> Answers:
    """All that is told of closed periods."""
    return (
        book.metering.closed_periods("calls", reopened=True, as_of=as_of),
        book.metering.adjustments("calls", as_of=as_of),
        book.metering.adjustments("calls", "acme", as_of=as_of),
    )


@settings(max_examples=25)
@given(RULES, histories(most=15))
def test_as_of_each_position_is_what_was_answered_there(rules: Rules, history: list[Step]) -> None:
    """And as of each moment; of all customers or of one."""
    with book_of(rules) as book:
        then: dict[int, tuple[datetime, Answers]] = {}

        def remember() -> None:
            then[book.metering.catch_up()] = (book.clock.now, answers(book, None))

        tell(book, history, after=remember)
        for position, (now, answered) in then.items():
            assert answers(book, position) == answered
            closed, owed, of_acme = answers(book, now)
            assert (closed, without_position(owed), without_position(of_acme)) == (
                answered[0],
                without_position(answered[1]),
                without_position(answered[2]),
            )
        for _, owed, of_acme in (answered for _, answered in then.values()):
            assert of_acme == [one for one in owed if one.period.customer == "acme"]


def without_position(found: list[Adjustment]) -> list[object]:
    """Adjustments but for the position, which as of a moment is that of now."""
    return [(one.period, one.difference, one.rules_difference, one.events) for one in found]


@given(
    st.builds(
        Rules, st.sampled_from(["sum", "count"]), st.sampled_from([None, "hour", "day"]), by_region=st.booleans()
    ),
    st.lists(RECORDS | CANCELS, min_size=3, max_size=40),
    st.sampled_from(ZONES),
    st.data(),
)
def test_nothing_is_owed_on_another_period(rules: Rules, history: list[Step], zone: str, data: st.DataObject) -> None:
    """What was frozen for periods that tile a range, and is owed on them, adds up to the total of the whole range."""
    with book_of(rules) as book:
        tiles = TILES[zone]
        cuts = [data.draw(st.integers(0, len(history))) for _ in tiles]
        for number in range(len(history) + 1):
            for customer in NAMES:
                for tile in (tile for tile, cut in zip(tiles, cuts, strict=True) if cut == number):
                    book.close(customer, tile)
            tell(book, history[number : number + 1])
        for customer in NAMES:
            frozen = sum(Fraction(one.quantity) for one in book.metering.closed_periods("calls", customer))
            owed = sum(Fraction(one.difference) for one in book.metering.adjustments("calls", customer))
            whole = book.metering.total("calls", customer, *RANGE)
            assert frozen + owed == Fraction(whole.value) == quantity(book.kept, rules, customer, RANGE)


def test_the_histories_hold_what_they_should() -> None:
    """Of many, some close, reopen, are late, are cancelled, and count otherwise by each of the rules."""
    seen: set[str] = set()

    @settings(max_examples=120, derandomize=True)
    @given(RULES, histories())
    def look(rules: Rules, history: list[Step]) -> None:
        with book_of(rules) as book:
            tell(book, history)
            for one in book.metering.adjustments("calls"):
                seen.update(f"{event.before} to {event.verdict}" for event in one.events)
                seen.update({"difference"} if one.difference else {"no difference"})
                seen.update({"by rules"} if one.rules_difference else ())
            seen.update("reopened" for one in book.metering.closed_periods("calls", reopened=True) if one.reopened_at)
            closed = [one.rules for one in book.closings]
            seen.update(key for one in closed for key, of in one.arguments.items() if of != book.rules.arguments[key])

    look()
    assert seen >= {
        "None to counted", "None to cancelled", "None to overwritten", "counted to cancelled", "counted to overwritten",
        "overwritten to counted", "difference", "no difference", "by rules", "reopened",
        "formula", "event_time_window", "customer_key", "value_key",
    }  # fmt: skip
