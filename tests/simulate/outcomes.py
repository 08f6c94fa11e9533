"""What became of an operation, and what there was to be known while it ran."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tallybook.domain.errors import TallybookError

from .model import LedgerModel, Row


class ModelMismatch(Exception):
    """The ledger isn't as it must be."""


class SimulatedDeath(BaseException):
    """The process ends here: nothing of it goes on."""


@dataclass
class OperationResult:
    """An operation, from its beginning to its end.

    Other operations may have run completely in between: `heads` are the positions, and `moments` the times, at which it
    may have read. `written_rows` are the rows it added. `error` is what it raised, `SimulatedDeath` if it was killed.
    `fault` is the fault injected into it, and `is_contended` is set if another process was working on generations.
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
        """The code of the refusal; None where it was answered."""
        return self.error.code if isinstance(self.error, TallybookError) else None

    @property
    def ran_alone(self) -> bool:
        """Whether nothing else happened while it ran."""
        return not self.interruptions and not self.is_contended

    @property
    def was_interrupted(self) -> bool:
        """Whether a fault made it fail: it may have happened wholly, or not at all."""
        return self.fault is not None and (isinstance(self.error, SimulatedDeath) or self.code == "ledger_unavailable")

    @property
    def was_locked_out(self) -> bool:
        """Whether it was refused because another process is working on generations."""
        return self.is_contended and self.code == "rebuild_in_progress"

    @property
    def visible_states(self) -> list[tuple[int, datetime]]:
        """All that it may have seen: a position and a time."""
        return [(head, now) for head in dict.fromkeys(self.heads) for now in dict.fromkeys(self.moments)]

    @property
    def description(self) -> str:
        """What became of it, in words that are the same in every run of a seed."""
        if isinstance(self.error, SimulatedDeath):
            return "died"
        text = f"refused {self.code}" if self.error else "done"
        return text + (f", wrote {[row.position for row in self.written_rows]}" if self.written_rows else "")

    def expect(self, condition: object, message: str, **context: object) -> None:
        """Raise Differs unless it is so."""
        if not condition:
            details = "".join(f"\n    {name}: {value!r}" for name, value in context.items())
            raise ModelMismatch(f"{message}{details}")

    def expect_error(self, allowed: Sequence[str] | set[str]) -> None:
        """Raise Differs unless it was refused with one of some codes, and wrote nothing."""
        self.expect(self.code in allowed, "refused otherwise than it must be", code=self.code, allowed=sorted(allowed))
        self.expect(not self.written_rows, "it was refused, and yet wrote", wrote=self.written_rows)

    def expect_rows(self, *expected: Mapping[str, Any]) -> None:
        """Raise Differs unless exactly these rows were written, each with all that is wanted in it."""
        actual = [{"topic": row.topic, "stream": row.stream, **row.fields} for row in self.written_rows]
        is_equal = len(actual) == len(expected) and all(
            all(row.get(name) == value for name, value in fields.items())
            for row, fields in zip(actual, expected, strict=True)
        )
        self.expect(is_equal, "other rows were written than these", wanted=expected, wrote=self.written_rows)
