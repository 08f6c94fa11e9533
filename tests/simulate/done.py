"""What became of an operation, and what there was to be known while it ran."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tallybook.domain.errors import TallybookError

from .model import Book, Row


class Differs(Exception):
    """The ledger isn't as it must be."""


class Dies(BaseException):
    """The process ends here: nothing of it goes on."""


@dataclass
class Done:
    """An operation, from its beginning to its end.

    Other operations may have happened whole in between: `heads` are the positions, and `moments` the times, at which it
    may have looked. `wrote` are the rows it added. `error` is what it raised, `Dies` where it was killed. `fault` tells
    what was done to it, and `is_contended` whether another process was working on generations meanwhile.
    """

    book: Book
    heads: list[int]
    moments: list[datetime]
    wrote: list[Row] = field(default_factory=list[Row])
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
    def is_alone(self) -> bool:
        """Whether nothing else happened while it ran."""
        return not self.interruptions and not self.is_contended

    @property
    def was_cut_off(self) -> bool:
        """Whether a fault made it fail: it may have happened wholly, or not at all."""
        return self.fault is not None and (isinstance(self.error, Dies) or self.code == "ledger_unavailable")

    @property
    def was_kept_out(self) -> bool:
        """Whether it was refused because another process is working on generations."""
        return self.is_contended and self.code == "rebuild_running"

    @property
    def views(self) -> list[tuple[int, datetime]]:
        """All that it may have seen: a position and a time."""
        return [(head, now) for head in dict.fromkeys(self.heads) for now in dict.fromkeys(self.moments)]

    @property
    def shown(self) -> str:
        """What became of it, in words that are the same in every run of a seed."""
        if isinstance(self.error, Dies):
            return "died"
        said = f"refused {self.code}" if self.error else "done"
        return said + (f", wrote {[row.position for row in self.wrote]}" if self.wrote else "")

    def expect(self, is_so: object, what: str, **told: object) -> None:
        """Raise Differs unless it is so."""
        if not is_so:
            details = "".join(f"\n    {name}: {value!r}" for name, value in told.items())
            raise Differs(f"{what}{details}")

    def expect_refusal(self, allowed: Sequence[str] | set[str]) -> None:
        """Raise Differs unless it was refused with one of some codes, and wrote nothing."""
        self.expect(self.code in allowed, "refused otherwise than it must be", code=self.code, allowed=sorted(allowed))
        self.expect(not self.wrote, "it was refused, and yet wrote", wrote=self.wrote)

    def expect_rows(self, *wanted: Mapping[str, Any]) -> None:
        """Raise Differs unless exactly these rows were written, each with all that is wanted in it."""
        found = [{"topic": row.topic, "stream": row.stream, **row.said} for row in self.wrote]
        is_so = len(found) == len(wanted) and all(
            all(row.get(name) == value for name, value in want.items()) for row, want in zip(found, wanted, strict=True)
        )
        self.expect(is_so, "other rows were written than these", wanted=wanted, wrote=self.wrote)
