"""The error for stored events that can't be read."""

from collections.abc import Generator
from contextlib import contextmanager

import msgspec
from eventsourcing.domain import OriginatorIDError, OriginatorVersionError
from eventsourcing.persistence import MapperDeserialisationError

from ...domain.errors import LedgerCorrupted
from ...domain.text import abbreviated_repr

UNREADABLE_ERRORS = (
    MapperDeserialisationError, OriginatorIDError, OriginatorVersionError, msgspec.MsgspecError, AssertionError,
    AttributeError, TypeError, ValueError,
)  # fmt: skip
"""What reading a changed event may raise: the mapper, the library's aggregates, and the aggregates of the domain."""


@contextmanager
def raise_corrupted(stream: object, position: int | None = None) -> Generator[None]:
    """Raise LedgerCorrupted if the stored events that the block reads are unreadable."""
    try:
        yield
    except UNREADABLE_ERRORS as error:
        raise corrupted_error(stream, position, error) from error


def corrupted_error(stream: object, position: int | None, error: Exception) -> LedgerCorrupted:
    """Return the error for a stream, with the position of the unreadable event if it is known."""
    location = "" if position is None else f" at position {position}"
    return LedgerCorrupted(
        f"The stored events of {abbreviated_repr(stream)}{location} can't be read: "
        f"{str(error) or type(error).__name__}. Ledgers don't write such events; 'tallybook verify --checkpoints' "
        "shows what was changed, and a backup has the original.",
        field="position",
        value=position,
    )
