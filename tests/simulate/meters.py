"""Operations on meters: configured, renamed, put to rest and woken."""

from dataclasses import dataclass
from typing import Any

from tallybook.application import Metering, MeterView

from .done import Done
from .model import Book, Meter, Rules


@dataclass(frozen=True)
class Configure:
    """A meter begins, or is asked for as it is, or otherwise than it is."""

    event_name: str
    rules: Rules
    display_name: str | None = None

    def __str__(self) -> str:
        return f"configure {self.event_name!r:.20} {self.rules.formula} {self.rules.event_time_window}"

    def do(self, metering: Metering) -> MeterView:
        """Ask for it."""
        return metering.configure_meter(self.event_name, display_name=self.display_name, **self.rules.arguments)

    def judge(self, done: Done) -> None:
        """It begins once; who asks for other rules is refused."""
        allowed = {self._answer(done.book, head) for head in done.heads}
        if done.wrote:
            answer = self._answer(done.book, done.wrote[0].position - 1)
            done.expect(answer == "configured", "a meter began twice", wrote=done.wrote)
            done.expect_rows({"topic": "Configured", "event_name": self.event_name, "rules": _stored(self.rules),
                              "display_name": self.display_name or self.event_name})  # fmt: skip
        if done.was_cut_off:
            return
        if done.error is not None:
            done.expect_refusal(allowed - {"configured", "the same"})
            return
        done.expect(done.wrote or "the same" in allowed, "configured, but nothing was written", allowed=allowed)
        done.expect(_is_shown(done, self.event_name), "another meter is shown", shown=done.value)

    def _answer(self, book: Book, head: int) -> str:
        found = book.meters(head).get(self.event_name)
        if found is None:
            return "configured"
        is_same = found.rules == self.rules and self.display_name in (None, found.display_name)
        return "the same" if is_same else "meter_already_exists"


COMMANDS = {"rename": "Renamed", "deactivate": "Deactivated", "reactivate": "Reactivated"}


@dataclass(frozen=True)
class Manage:
    """A meter is renamed, put to rest or woken."""

    command: str
    event_name: str
    display_name: str = ""

    def __str__(self) -> str:
        return f"{self.command} {self.event_name!r:.20} {self.display_name!r:.12}"

    def do(self, metering: Metering) -> MeterView:
        """Do it."""
        if self.command == "rename":
            return metering.rename_meter(self.event_name, self.display_name)
        change = metering.deactivate_meter if self.command == "deactivate" else metering.reactivate_meter
        return change(self.event_name)

    def judge(self, done: Done) -> None:
        """It takes effect once, and where it is so already nothing is written."""
        allowed = {self._answer(done.book, head) for head in done.heads}
        if done.wrote:
            answer = self._answer(done.book, done.wrote[0].position - 1)
            done.expect(answer == "changed", "changed what was so already", wrote=done.wrote)
            shown: dict[str, Any] = {"display_name": self.display_name} if self.command == "rename" else {}
            done.expect_rows({"topic": COMMANDS[self.command], "stream": f"meter/{self.event_name}", **shown})
        if done.was_cut_off:
            return
        if done.error is not None:
            done.expect_refusal(allowed - {"changed", "so already"})
            return
        done.expect(done.wrote or "so already" in allowed, "done, but nothing was written", allowed=allowed)
        done.expect(_is_shown(done, self.event_name), "another meter is shown", shown=done.value)

    def _answer(self, book: Book, head: int) -> str:
        found = book.meters(head).get(self.event_name)
        if found is None:
            return "no_meter"
        is_so = {
            "rename": found.display_name == self.display_name,
            "deactivate": not found.is_active,
            "reactivate": found.is_active,
        }
        return "so already" if is_so[self.command] else "changed"


def is_view_of(view: MeterView, meter: Meter) -> bool:
    """Whether a meter is shown as it is."""
    rules = Rules(view.formula, view.event_time_window, view.customer_key, view.value_key, view.dimension_keys)
    return (view.event_name, view.display_name, view.revision, view.status == "active", rules) == (
        meter.name, meter.display_name, meter.revision, meter.is_active, meter.rules,
    )  # fmt: skip


def _is_shown(done: Done, event_name: str) -> bool:
    known = [done.book.meters(head).get(event_name) for head in range(min(done.heads), max(done.heads) + 1)]
    return any(meter is not None and is_view_of(done.value, meter) for meter in known)


def _stored(rules: Rules) -> dict[str, Any]:
    return rules.arguments | {"dimension_keys": list(rules.dimension_keys)}
