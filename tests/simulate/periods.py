"""Operations on periods: closed, once, and reopened."""

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from tallybook.application import ClosedPeriod, Metering

from .done import Done
from .model import GRACE, Book, Bounds, Row, bounds_of


@dataclass(frozen=True)
class Close:
    """The figures of a customer's period are frozen."""

    event_name: str
    customer: str
    bounds: Bounds

    def __str__(self) -> str:
        return f"close {self.event_name!r:.20} {self.customer!r:.12} {shown(self.bounds)}"

    def do(self, metering: Metering) -> ClosedPeriod:
        """Close it."""
        return metering.close_period(self.event_name, self.customer, *self.bounds)

    def judge(self, done: Done) -> None:
        """The figures are those of the position that they name; once closed, that is the answer."""
        allowed = {self._answer(done.book, head, now) for head, now in done.views}
        if done.wrote:
            row = done.wrote[0]
            answer = self._answer(done.book, row.position - 1, row.recorded_at)
            done.expect(answer == "closed" and len(done.wrote) == 1, "closed, but can't be", answer=answer, row=row)
            self._judge_figures(done, row)
        if done.was_cut_off or done.was_kept_out:
            return
        if done.error is not None:
            done.expect_refusal(allowed - {"closed", "standing"})
            return
        done.expect(done.wrote or "standing" in allowed, "closed, but nothing was written", allowed=allowed)
        rows = done.book.of("PeriodClosed", until=done.book.head)
        done.expect(any(is_told(done.value, row) for row in rows), "another closing is told", told=done.value)

    def _judge_figures(self, done: Done, row: Row) -> None:
        said, book, asked = row.said, done.book, (self.event_name, self.customer, self.bounds, row.said["position"])
        done.expect(said["position"] in done.heads, "figures of a position that wasn't looked at", row=row)
        total, count, last = book.figures(*asked)
        found = {name: None if said[name] is None else Fraction(said[name]) for name in ("sum", "count", "last")}
        done.expect(found == {"sum": total, "count": count, "last": last}, "other figures are frozen", row=row,
                    expected=(total, count, last))  # fmt: skip
        quantity = book.quantity(*asked)
        frozen = Fraction(said["quantity"]), Fraction(said["billable"]), said["digest"], bounds_of(row)
        expected = quantity, max(quantity, Fraction(0)), book.digest(*asked), self.bounds
        done.expect(frozen == expected, "another quantity is frozen", frozen=frozen, expected=expected)

    def _answer(self, book: Book, head: int, now: datetime) -> str:
        if self.event_name not in book.meters(head):
            return "no_meter"
        standing = [bounds_of(row) for row in book.standing(self.event_name, self.customer, head)]
        if self.bounds in standing:
            return "standing"
        if now - self.bounds[1] < GRACE:
            return "period_not_over"
        is_overlapping = any(start < self.bounds[1] and self.bounds[0] < end for start, end in standing)
        return "period_overlaps" if is_overlapping else "closed"


@dataclass(frozen=True)
class Reopen:
    """A closed period is let go, to be closed anew."""

    event_name: str
    customer: str
    bounds: Bounds

    def __str__(self) -> str:
        return f"reopen {self.event_name!r:.20} {self.customer!r:.12} {shown(self.bounds)}"

    def do(self, metering: Metering) -> ClosedPeriod:
        """Reopen it."""
        return metering.reopen_period(self.event_name, self.customer, *self.bounds, reason="a test")

    def judge(self, done: Done) -> None:
        """Only what is closed can be reopened."""
        allowed = {self._answer(done.book, head) for head in done.heads}
        if done.wrote:
            answer = self._answer(done.book, done.wrote[0].position - 1)
            done.expect(answer == "reopened", "reopened, but wasn't closed", wrote=done.wrote)
            done.expect_rows({"topic": "PeriodReopened", "event_name": self.event_name, "customer": self.customer})
            done.expect(bounds_of(done.wrote[0]) == self.bounds, "another period was reopened", wrote=done.wrote)
        if done.was_cut_off:
            return
        if done.error is not None:
            done.expect_refusal(allowed - {"reopened"})
        else:
            done.expect(done.wrote, "reopened, but nothing was written", allowed=allowed)

    def _answer(self, book: Book, head: int) -> str:
        if self.event_name not in book.meters(head):
            return "no_meter"
        standing = [bounds_of(row) for row in book.standing(self.event_name, self.customer, head)]
        return "reopened" if self.bounds in standing else "period_not_closed"


def shown(bounds: Bounds) -> str:
    """A period in a few words."""
    return f"{bounds[0]:%d %H:%M} to {bounds[1]:%d %H:%M}"


def is_told(told: ClosedPeriod, row: Row) -> bool:
    """Whether a closing is told as it is stored."""
    figures = told.model_dump(
        mode="json", include={"event_name", "customer", "sum", "count", "last", "quantity", "digest"}
    )
    named = {name: row.said[name] for name in figures}
    return (figures, (told.start, told.end), told.closed_at, told.position) == (
        named, bounds_of(row), row.recorded_at, row.said["position"],
    )  # fmt: skip
