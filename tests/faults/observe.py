"""Each statement of a store can be watched, and made to fail, before it and after it."""

from typing import NamedTuple, Protocol


class Statement(NamedTuple):
    """One statement of a store, BEGIN, COMMIT and CONNECT among them, on one of its connections."""

    connection: object
    text: str

    @property
    def begins_transaction(self) -> bool:
        """Whether a transaction begins with it."""
        return self.text.startswith("BEGIN")


class StatementObserver(Protocol):
    """What is told of each statement. It may raise InjectedFault, or anything else, in its place."""

    def before(self, statement: Statement) -> None:
        """A statement is about to be sent."""
        ...

    def after(self, statement: Statement) -> None:
        """A statement took effect, and its answer is about to be given."""
        ...


class InjectedFault(Exception):
    """The database answers this; the store sees it as its driver's own error.

    "disk full" and "disk I/O error" are answers; with anything else the connection is gone.
    """
