"""Operations on usage: reports are recorded, again and otherwise, and cancelled."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tallybook.application import Cancellation, Metering, Receipt

from .done import Done
from .model import CANCEL_WINDOW, Book, Report, Row

MOST_CHARACTERS = 100

Answer = tuple[str, int | None]
"""Outcome, and position for what is known already; the code of a refusal in place of an outcome."""


@dataclass(frozen=True)
class Record:
    """One report, or several in one transaction."""

    reports: Sequence[Report]

    def __str__(self) -> str:
        return "record " + "; ".join(
            f"{one.event_name!r:.20} {one.identifier!r:.12} {one.timestamp:%d %H:%M}"
            if one.timestamp
            else f"{one.event_name!r:.20} {one.identifier!r:.12} now"
            for one in self.reports
        )

    def do(self, metering: Metering) -> Sequence[Receipt]:
        """Report it."""
        if len(self.reports) > 1:
            return metering.record_many([one.given for one in self.reports])
        report = self.reports[0]
        payload = dict(report.payload)
        return [metering.record(report.event_name, payload, identifier=report.identifier, timestamp=report.timestamp)]

    def judge(self, done: Done) -> None:
        """Each report is answered as it must be, and what was accepted lies in the ledger, all of it or nothing."""
        answers = [self._answers(done.book, head, now) for head, now in done.views]
        allowed = [set[Answer]().union(*(each[number] for each in answers)) for number in range(len(self.reports))]
        for row in done.wrote:
            is_ours = row.topic == "UsageRecorded" and row.recorded_at in done.moments
            report = self._report_of(row) if is_ours else None
            done.expect(report, "a row that nobody reported", row=row)
            assert report is not None
            codes = done.book.refusals(report, row.position - 1, row.recorded_at)
            done.expect(not codes, "stored, but was not acceptable any more", row=row, codes=codes)
        if done.was_cut_off:
            self._judge_whole(done, allowed)
        elif done.error is not None:
            done.expect_refusal({"duplicate_meter_event" if code == "conflict" else code for code, _ in allowed[0]})
        else:
            self._judge_receipts(done, allowed)

    def _judge_whole(self, done: Done, allowed: list[set[Answer]]) -> None:
        must = sum(answers == {("accepted", None)} for answers in allowed)
        may = sum(("accepted", None) in answers for answers in allowed)
        done.expect(not done.wrote or must <= len(done.wrote) <= may, "a batch is there in part", wrote=done.wrote)

    def _judge_receipts(self, done: Done, allowed: list[set[Answer]]) -> None:
        wrote = {row.position: row for row in done.wrote}
        for receipt, report, answers in zip(done.value, self.reports, allowed, strict=True):
            told = receipt.error.code if receipt.outcome == "rejected" else str(receipt.outcome)
            if told == "accepted":
                row = wrote.pop(receipt.position, None)
                is_there = row is not None and row.identifier == receipt.identifier and report.is_said_by(row)
                done.expect(is_there, "what was accepted isn't there", receipt=receipt, row=row)
                done.expect(("accepted", None) in answers, "accepted, but must not be", report=report, allowed=answers)
                continue
            ours = {row.position for row in done.wrote if row.identifier == receipt.identifier}
            is_right = (told, None if receipt.position in ours else receipt.position) in answers
            done.expect(is_right, "answered otherwise than it must be", receipt=receipt, allowed=answers, report=report)
        done.expect(not wrote, "more was written than was acknowledged", rows=wrote)

    def _answers(self, book: Book, head: int, now: datetime) -> list[set[Answer]]:
        """How each report may be answered by who sees the ledger up to `head` at a time.

        What is said again within the batch has the position of the first, which isn't known yet: None.
        """
        answers: list[set[Answer]] = []
        fresh: dict[str, Report] = {}
        for report in self.reports:
            identifier, codes = report.identifier or "", book.refusals(report, head, now)
            held = book.held(identifier, head) if identifier else None
            if len(identifier) > MOST_CHARACTERS:
                answers.append({("invalid_identifier", None)})
            elif held is not None:
                answers.append({("duplicate" if report.is_said_by(held) else "conflict", held.position)})
            elif identifier in fresh:
                answers.append({("duplicate" if _says_again(report, fresh[identifier], now) else "conflict", None)})
            elif codes:
                answers.append({(code, None) for code in codes})
            else:
                answers.append({("accepted", None)})
                if identifier:
                    fresh[identifier] = report
        return answers

    def _report_of(self, row: Row) -> Report | None:
        return next(
            (one for one in self.reports if one.identifier in (None, row.identifier) and one.is_said_by(row)), None
        )


def _says_again(report: Report, first: Report, now: datetime) -> bool:
    return (report.event_name, report.payload) == (first.event_name, first.payload) and (
        report.timestamp is None or report.timestamp == (first.timestamp or now)
    )


@dataclass(frozen=True)
class Cancel:
    """The cancel of a meter event."""

    event_name: str
    identifier: str
    reason: str | None = None

    def __str__(self) -> str:
        return f"cancel {self.event_name!r:.20} {self.identifier!r:.12}"

    def do(self, metering: Metering) -> Cancellation:
        """Ask for it."""
        return metering.cancel(self.event_name, self.identifier, reason=self.reason)

    def judge(self, done: Done) -> None:
        """Cancelled once, in time, and under its own meter; the first cancellation is the answer for ever."""
        allowed = {self._answer(done.book, head, now) for head, now in done.views}
        done.expect(len(done.wrote) <= 1, "one cancel writes one row", wrote=done.wrote)
        if done.wrote:
            (row,) = done.wrote
            use = done.book.held(self.identifier, row.position)
            answer = self._answer(done.book, row.position - 1, row.recorded_at)
            done.expect(
                answer == "cancelled" and row.recorded_at in done.moments, "cancelled, but must not be", row=row
            )
            expected = {
                **(use.said if use else {}),
                "topic": "EventCancelled",
                "stream": f"event/{self.identifier}",
                "recorded_at": row.said["recorded_at"],
                "reason": self.reason,
                "recorded_position": use.position if use else 0,
            }
            done.expect_rows(expected)
        if done.was_cut_off:
            return
        if done.error is not None:
            done.expect_refusal(allowed - {"cancelled", "before"})
            return
        row = done.book.cancel_of(self.identifier, done.book.head)
        done.expect(row, "what was cancelled isn't", allowed=allowed)
        assert row is not None
        is_first = (done.value.cancelled_at, done.value.reason) == (row.recorded_at, row.said["reason"])
        done.expect(is_first, "another cancellation than the first is told", told=done.value, row=row)
        done.expect(done.wrote or "before" in allowed, "cancelled, but nothing was written", allowed=allowed)

    def _answer(self, book: Book, head: int, now: datetime) -> str:
        use = book.held(self.identifier, head)
        if use is None:
            return "invalid_cancel_configuration" if self.event_name in book.meters(head) else "no_meter"
        if use.said["event_name"] != self.event_name:
            return "invalid_cancel_configuration"
        if book.cancel_of(self.identifier, head) is not None:
            return "before"
        return "cancelled" if now - use.recorded_at <= CANCEL_WINDOW else "invalid_cancel_configuration"
