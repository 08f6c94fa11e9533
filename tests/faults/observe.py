"""Observers of the statements of a store, which can make each one fail before or after it takes effect."""

from typing import NamedTuple, Protocol


class Statement(NamedTuple):
    """One statement of a store on one of its connections, including BEGIN, COMMIT and CONNECT."""

    connection: object
    text: str

    @property
    def begins_transaction(self) -> bool:
        """Whether the statement begins a transaction."""
        return self.text.startswith("BEGIN")


class StatementObserver(Protocol):
    """Receives each statement. It may raise InjectedFault or another exception in place of the statement."""

    def before(self, statement: Statement) -> None:
        """Handle a statement before it is sent."""
        ...

    def after(self, statement: Statement) -> None:
        """Handle a statement after it took effect, before its result is returned."""
        ...


class InjectedFault(Exception):
    """An error of the database; the store receives it as an error of its driver.

    "disk full" and "disk I/O error" are errors of a statement; any other text means that the connection is lost.
    """
