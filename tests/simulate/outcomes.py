"""The result of an operation, and the states of the ledger that it could read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tallybook.domain.errors import TallybookError

from .model import LedgerModel, Row


class ModelMismatch(Exception):
    """The ledger differs from the model."""


class SimulatedDeath(BaseException):
    """The process dies here: none of its code runs afterwards."""


@dataclass
class OperationResult:
    """The result of an operation, from its start to its end.

    Other operations may have run completely in between: `heads` are the positions, and `moments` the times, that the
    operation could read. `written_rows` are the rows it added. `error` is the exception it raised, `SimulatedDeath` if
    its process died. `fault` names the injected fault; `is_contended` is set if another process held a generation lock.
    """

    model: LedgerModel
    heads: list[int]
    moments: list[datetime]
    written_rows: list[Row] = field(default_factory=list[Row])
    value: Any = None
    error: BaseException | None = None
    fault: str | None = None
    is_contended: bool = False
    interruptions: int = 0

    @property
    def code(self) -> str | None:
        """The code of the error; None if the operation succeeded."""
        return self.error.code if isinstance(self.error, TallybookError) else None

    @property
    def ran_alone(self) -> bool:
        """Whether no other operation ran in between."""
        return not self.interruptions and not self.is_contended

    @property
    def was_interrupted(self) -> bool:
        """Whether an injected fault made it fail: it took effect completely, or not at all."""
        return self.fault is not None and (isinstance(self.error, SimulatedDeath) or self.code == "ledger_unavailable")

    @property
    def was_locked_out(self) -> bool:
        """Whether it was rejected because another process holds the generation lock."""
        return self.is_contended and self.code == "rebuild_in_progress"

    @property
    def visible_states(self) -> list[tuple[int, datetime]]:
        """All states that the operation could read: pairs of a position and a time."""
        return [(head, now) for head in dict.fromkeys(self.heads) for now in dict.fromkeys(self.moments)]

    def decision_times(self, row: Row) -> list[datetime]:
        """Return the times at which a row may have been decided; it is stored at that of the row before it, if later.

        A limit of age applies to the time of the decision, as a call that waits for others isn't late for that.
        """
        return [moment for moment in dict.fromkeys(self.moments) if moment <= row.recorded_at]

    @property
    def description(self) -> str:
        """The result in words that are the same in every run of a seed."""
        if isinstance(self.error, SimulatedDeath):
            return "died"
        text = f"rejected: {self.code}" if self.error else "done"
        return text + (f", wrote {[row.position for row in self.written_rows]}" if self.written_rows else "")

    def expect(self, condition: object, message: str, **context: object) -> None:
        """Raise ModelMismatch if the condition is false."""
        if not condition:
            details = "".join(f"\n    {name}: {value!r}" for name, value in context.items())
            raise ModelMismatch(f"{message}{details}")

    def expect_error(self, allowed: Sequence[str] | set[str]) -> None:
        """Raise ModelMismatch unless the operation failed with an allowed code and wrote no row."""
        self.expect(self.code in allowed, "rejected with an unexpected code", code=self.code, allowed=sorted(allowed))
        self.expect(not self.written_rows, "rejected, but rows were written", written=self.written_rows)

    def expect_rows(self, *expected: Mapping[str, Any]) -> None:
        """Raise ModelMismatch unless exactly these rows were written, each with at least the expected fields."""
        actual = [{"topic": row.topic, "stream": row.stream, **row.fields} for row in self.written_rows]
        is_equal = len(actual) == len(expected) and all(
            all(row.get(name) == value for name, value in fields.items())
            for row, fields in zip(actual, expected, strict=True)
        )
        self.expect(is_equal, "unexpected rows were written", expected=expected, written=self.written_rows)
