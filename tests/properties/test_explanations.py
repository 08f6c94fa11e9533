"""Whatever was reported, cancelled, closed and counted otherwise: what an explanation lists adds up to the figure."""

from datetime import datetime
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from tallybook.application import Explanation

from .closings import NAMES, RANGE, RULES, TILES, Book, Rules, Step, book_of, histories, quantity, stands, tell

BOUNDS = st.sampled_from([RANGE, *TILES["Europe/Berlin"], (TILES["UTC"][1][0], TILES["Asia/Kathmandu"][1][1])])


@given(RULES, histories(most=20), BOUNDS)
def test_what_an_explanation_lists_adds_up_to_the_figure(
    rules: Rules, history: list[Step], bounds: tuple[datetime, datetime]
) -> None:
    """Of a customer or of all, now or as of any position or moment, under the rules that were in force then."""
    with book_of(rules) as book:
        moments: list[tuple[int, datetime]] = []
        tell(book, history, after=lambda: moments.append((book.metering.catch_up(), book.clock.now)))
        for position, now in [*moments[::4], moments[-1]]:
            for customer in (*NAMES, None):
                for as_of in (position, now):
                    check(book, customer, bounds, as_of)
        for customer in (*NAMES, None):
            check(book, customer, bounds, None)


def check(book: Book, customer: str | None, bounds: tuple[datetime, datetime], as_of: int | datetime | None) -> None:
    """Hold that an explanation is of the total, and adds up to it by its own formula."""
    explanation = book.metering.explain("calls", customer, *bounds, as_of=as_of)
    assert explanation.total == book.metering.total("calls", customer, *bounds, as_of=as_of)
    assert sum(Fraction(one.contribution) for one in explanation.events) == Fraction(explanation.total.value)
    counted = [one for one in explanation.events if one.verdict == "counted"]
    assert len(counted) == explanation.total.count
    assert all(one.contribution == 0 for one in explanation.events if one.verdict != "counted")
    values = [Fraction(one.value) for one in counted if one.value is not None]
    figure = {"sum": sum(values), "count": len(counted), "last": values[-1] if values else 0}[explanation.formula]
    assert Fraction(explanation.total.value) == figure
    if isinstance(as_of, int):
        assert explanation.position == as_of
    if as_of is None:
        check_now(book, customer, bounds, explanation)


def check_now(book: Book, customer: str | None, bounds: tuple[datetime, datetime], explanation: Explanation) -> None:
    """Hold each event, its verdict and what it adds as plain loops have them."""
    assert Fraction(explanation.total.value) == quantity(book.kept, book.rules, customer, bounds)
    if customer is not None:
        found = {one.identifier: (str(one.verdict), Fraction(one.contribution)) for one in explanation.events}
        assert found == stands(book.kept, book.rules, customer, bounds)


@given(RULES, histories())
def test_a_closed_figure_is_explained_as_of_its_position_for_ever(rules: Rules, history: list[Step]) -> None:
    """Whatever comes later: the same figure, by the same revision, of the same events as their digest tells."""
    with book_of(rules) as book:
        tell(book, history)
        for closed in book.metering.closed_periods("calls", reopened=True):
            asked = ("calls", closed.customer, closed.start, closed.end)
            explanation = book.metering.explain(*asked, as_of=closed.position)
            total = explanation.total
            assert (total.value, total.billable, total.sum, total.count, total.last) == (
                closed.quantity, closed.billable, closed.sum, closed.count, closed.last,
            )  # fmt: skip
            assert (explanation.digest, explanation.revision) == (closed.digest, closed.revision)
            assert (explanation.formula, explanation.event_time_window) == (
                closed.rules.formula, closed.rules.event_time_window,
            )  # fmt: skip
            now = book.metering.explain(*asked)
            assert (now.digest == closed.digest) == (counted(now) == counted(explanation))


def counted(explanation: Explanation) -> list[object]:
    """What a digest is of: position, time and value of what counted."""
    return [(one.position, one.occurred_at, one.value) for one in explanation.events if one.verdict == "counted"]
