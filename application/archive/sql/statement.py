"""A statement of common table expressions, and what it computes."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from ....domain.rules_schedule import RulesInRange
from .dialects import Dialect

RELATION = "ledger_events"
"""The name of the relation that the statements read."""


@dataclass(frozen=True)
class UsageSelection:
    """The usage that a statement counts: events of `recorded_name` that were known at a position of the ledger.

    `parts` are the revisions of the rules with the ranges of time that they apply to, in order. `customer` is None for
    all customers, and `where` has the selected values by dimension key. `relation` has the recorded usage. If
    there are any, `usage` are relations with the usage of each part, as `usage_statement` computes it, to read instead.
    """

    event_name: str
    recorded_name: str
    parts: tuple[RulesInRange, ...]
    position: int
    customer: str | None = None
    where: Mapping[str, Set[str | None]] = field(default_factory=dict[str, Set[str | None]])
    relation: str = RELATION
    usage: tuple[str, ...] = ()


class Statement:
    """Common table expressions, added one after the other. Each can use those before it."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self._expressions: dict[str, str] = {}

    def add(self, name: str, query: str, comment: str = "", *, materialized: bool = False) -> str:
        """Add a common table expression, or replace the one of this name, and return its name.

        A query of one line stays on the line of its name.
        """
        keyword = self.dialect.materialized if materialized else ""
        remark = f"  -- {comment}" if comment else ""
        if "\n" in query:
            self._expressions[name] = f"{name} AS {keyword}({remark}\n{indent(query)}\n)"
        else:
            self._expressions[name] = f"{name} AS {keyword}({query})"
        return name

    def text(self, final_query: str) -> str:
        """Return the whole statement."""
        expressions = ",\n".join(self._expressions.values())
        settings = f"\n{self.dialect.settings}" if self.dialect.settings else ""
        return f"WITH\n{expressions}\n{final_query}{settings};\n"


def indent(query: str) -> str:
    """Return the lines of a query, indented."""
    return "\n".join(f"    {line}" for line in query.split("\n"))


def select(columns: Sequence[str], source: str, conditions: Sequence[str] = (), end: str = "") -> str:
    """Return a query of several lines: one for each column and condition."""
    query = "SELECT\n" + ",\n".join(f"    {column}" for column in columns) + f"\nFROM {source}"
    if conditions:
        query += "\nWHERE " + "\n    AND ".join(conditions)
    return f"{query}\n{end}" if end else query
