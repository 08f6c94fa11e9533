"""Operations on meters: configure, rename, deactivate, reactivate."""

from dataclasses import dataclass
from typing import Any

from tallybook.application import Metering, MeterView

from .model import LedgerModel, Meter
from .outcomes import OperationResult
from .rules import Rules


@dataclass(frozen=True)
class Configure:
    """Creates a meter, or configures an existing one with the same or other rules."""

    event_name: str
    rules: Rules
    display_name: str | None = None

    def __str__(self) -> str:
        return f"configure {self.event_name!r:.20} {self.rules.formula} {self.rules.event_time_window}"

    def run(self, metering: Metering) -> MeterView:
        """Configure the meter."""
        return metering.meters.configure(self.event_name, display_name=self.display_name, **self.rules.arguments)

    def check(self, result: OperationResult) -> None:
        """Check that it is created once, and that other rules are rejected."""
        allowed = {self._expected_outcome(result.model, head) for head in result.heads}
        if result.written_rows:
            expected = self._expected_outcome(result.model, result.written_rows[0].position - 1)
            result.expect(expected == "configured", "a meter was created twice", written=result.written_rows)
            display_name = self.display_name or self.event_name
            result.expect_rows(
                {
                    "topic": "Configured",
                    "event_name": self.event_name,
                    "rules": self.rules.stored_fields,
                    "display_name": display_name,
                }
            )
        if result.was_interrupted:
            return
        if result.error is not None:
            result.expect_error(allowed - {"configured", "the same"})
            return
        result.expect(
            result.written_rows or "the same" in allowed, "configured, but no row was written", allowed=allowed
        )
        result.expect(_is_visible(result, self.event_name), "the result is another meter", actual=result.value)

    def _expected_outcome(self, model: LedgerModel, head: int) -> str:
        existing = model.meters(head).get(self.event_name)
        if existing is None:
            return "configured"
        is_same = existing.rules == self.rules and self.display_name in (None, existing.display_name)
        return "the same" if is_same else "meter_already_exists"


COMMANDS = {"rename": "Renamed", "deactivate": "Deactivated", "reactivate": "Reactivated"}


@dataclass(frozen=True)
class Manage:
    """Renames, deactivates or reactivates a meter."""

    command: str
    event_name: str
    display_name: str = ""

    def __str__(self) -> str:
        return f"{self.command} {self.event_name!r:.20} {self.display_name!r:.12}"

    def run(self, metering: Metering) -> MeterView:
        """Run the command."""
        if self.command == "rename":
            return metering.meters.rename(self.event_name, self.display_name)
        change = metering.meters.deactivate if self.command == "deactivate" else metering.meters.reactivate
        return change(self.event_name)

    def check(self, result: OperationResult) -> None:
        """Check that it takes effect once, and that a command without effect writes no row."""
        allowed = {self._expected_outcome(result.model, head) for head in result.heads}
        if result.written_rows:
            expected = self._expected_outcome(result.model, result.written_rows[0].position - 1)
            result.expect(expected == "changed", "a command without effect wrote rows", written=result.written_rows)
            changed_fields: dict[str, Any] = {"display_name": self.display_name} if self.command == "rename" else {}
            result.expect_rows(
                {"topic": COMMANDS[self.command], "stream": f"meter/{self.event_name}", **changed_fields}
            )
        if result.was_interrupted:
            return
        if result.error is not None:
            result.expect_error(allowed - {"changed", "unchanged"})
            return
        result.expect(result.written_rows or "unchanged" in allowed, "changed, but no row was written", allowed=allowed)
        result.expect(_is_visible(result, self.event_name), "the result is another meter", actual=result.value)

    def _expected_outcome(self, model: LedgerModel, head: int) -> str:
        existing = model.meters(head).get(self.event_name)
        if existing is None:
            return "no_meter"
        is_unchanged = {
            "rename": existing.display_name == self.display_name,
            "deactivate": not existing.is_active,
            "reactivate": existing.is_active,
        }
        return "unchanged" if is_unchanged[self.command] else "changed"


def matches_meter(view: MeterView, meter: Meter) -> bool:
    """Return whether a view shows the meter's current state."""
    shown = view.event_name, view.display_name, view.revision, view.status == "active", Rules.from_view(view)
    return shown == (
        meter.name, meter.display_name, meter.revision, meter.is_active, meter.rules,
    )  # fmt: skip


def _is_visible(result: OperationResult, event_name: str) -> bool:
    versions = [result.model.meters(head).get(event_name) for head in range(min(result.heads), max(result.heads) + 1)]
    return any(meter is not None and matches_meter(result.value, meter) for meter in versions)
