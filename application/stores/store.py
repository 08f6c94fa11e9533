"""What a store has to do for the application: keep a ledger's rows in one order, and generations of read models."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from eventsourcing.persistence import Notification

from ...domain.errors import LedgerUnavailable, NotPermitted
from ...domain.rules import Rules
from ...projections.generations import Generation
from ...projections.rows import DisposableViews, LedgerPages, LedgerRows, Views
from .kept import Beside, Keeper

StoredRow = tuple[str, int, str, bytes]
"""Stream, version, topic and state of an event to store."""
PlacedRow = tuple[int, str, int, str, bytes]
"""Position, stream, version, topic and state of a stored event."""
StoredBytes = tuple[int, bytes, bytes, bytes, bytes, str]
"""Position, then stream, version, topic and state byte by byte, and which types the store keeps these four as."""

CLOSED = "The ledger was closed; open it again."
"""What is told of a ledger that is used after that."""
MADE_ANEW = "Delete their file (.views), or on PostgreSQL drop their schema (…_views): they are made again."
"""What to do about read models that are damaged."""


class TransientFailure(LedgerUnavailable):
    """What may be settled by trying again: a lost connection, or another transaction in the way."""


class NothingProjected(NotPermitted):
    """There are no read models yet, and this user may not make them."""


class UnreadableRow(LedgerUnavailable):
    """A row of the read models isn't as they write it."""


class Unreachable(TransientFailure):
    """The server let nobody connect for as long as is waited for that."""


class LockHeld(LedgerUnavailable):
    """Somebody else held a lock for as long as is waited for one."""


class StreamMoved(Exception):
    """Somebody else appended to a stream that a decision rested on."""


class LedgerAppender(LedgerRows, Protocol):
    """The rows of a ledger inside a transaction in which nobody else can append any."""

    def insert_rows(self, rows: Sequence[StoredRow]) -> Sequence[int]:
        """Store rows; give their positions."""
        ...


class LedgerRecorder(LedgerPages, Protocol):
    """The rows of a ledger. What the library asks of its recorders is there too."""

    def insert_rows(
        self,
        rows: Sequence[StoredRow],
        unless_moved: Mapping[str, int] | None = None,
        beside: Beside | None = None,
    ) -> Sequence[int]:
        """Store rows in one transaction; give their positions.

        Raises the library's IntegrityError, with nothing stored, where one is there already; and StreamMoved where a
        stream has grown past its version in `unless_moved`. Given the positions, `beside` tells what is kept in the
        same transaction; it raises AlreadyKept, with nothing stored, where some of that is there already. It must not
        use the ledger. Without rows nothing is looked at but what is kept.
        """
        ...

    def keeper(self) -> Keeper:
        """What is kept beside the events. Its table is made where there is none. Raises NotPermitted."""
        ...

    def alone(self) -> AbstractContextManager[LedgerAppender]:
        """Read and append while nobody else can append; what is appended takes effect at the end."""
        ...

    def stored_rows(self, first: int, last: int, limit: int) -> Sequence[StoredBytes]:
        """Up to `limit` rows at the positions from `first` to `last`, both included, in order, as they are stored."""
        ...

    def select_stream_positions(self, originator_id: str) -> Sequence[int]:
        """The positions of a stream's events, in order."""
        ...

    def select_first_events(self, originator_ids: Sequence[str]) -> Sequence[Notification]:
        """The first event, with its position, of each of the streams that exist."""
        ...

    def select_positions(self, positions: Sequence[int]) -> Sequence[PlacedRow]:
        """The events at `positions`, in any order."""
        ...

    def select_stream(self, stream: str) -> Sequence[Notification]:
        """The events of one stream, by version."""
        ...

    def select_streams(self, prefix: str) -> Sequence[str]:
        """The ids of the streams that begin with `prefix`, in order."""
        ...

    def select_under(self, prefix: str) -> Sequence[Notification]:
        """The events of all streams whose ids begin with `prefix`, by stream and version."""
        ...

    def select_newer(self, prefix: str, after: int, limit: int) -> Sequence[Notification]:
        """Up to `limit` events after the position `after` of streams whose ids begin with `prefix`, by position.

        What it costs grows with these streams alone, however much else the ledger holds.
        """
        ...

    def listening(self) -> AbstractContextManager[Callable[[float], None]]:
        """Hear of what is appended from here on: gives what waits for that, or for some seconds at most."""
        ...

    def close(self) -> None:
        """Let the ledger go."""
        ...


class GenerationViews(DisposableViews, Protocol):
    """The read models of one ledger, in generations, of which one is live and answers."""

    def generations(self) -> list[Generation]:
        """All generations, in the order that they were begun in."""
        ...

    def begin(self, pinned: Mapping[str, Rules]) -> Generation:
        """Begin another generation, without rows, in the state `building`."""
        ...

    def of(self, generation: int) -> Views:
        """The rows of one generation, whether live or not. They raise NoGeneration once it is dropped."""
        ...

    def set_ready(self, generation: int, revisions: Mapping[str, int]) -> None:
        """A generation is wholly built, beside these revisions of the rules in force."""
        ...

    def make_live(self, generation: int, revisions: Mapping[str, int]) -> None:
        """Let a generation answer from now on, and the one that did so far retire, both at once.

        The one that retires is kept beside these revisions of the rules in force.
        """
        ...

    def drop(self, generation: int) -> None:
        """Do away with a generation that isn't live."""
        ...

    def alone(self, doing: str, *, wait_seconds: float = ...) -> AbstractContextManager[None]:
        """Be the only one to build, compare or promote generations. Raises RebuildRunning, which says who is.

        It waits for a little, as readers may be following changed rules, which takes them moments.
        """
        ...

    def scratch(self, pinned: Mapping[str, Rules]) -> AbstractContextManager[Views]:
        """Read models of their own, without rows, which are gone at the end."""
        ...

    def close(self) -> None:
        """Let them go."""
        ...


class Store(Protocol):
    """Where a ledger and its read models are kept, to be opened as often as wanted."""

    @property
    def place(self) -> str:
        """Where it is, in words."""
        ...

    @property
    def is_lasting(self) -> bool:
        """Whether it is there still when nobody has it open."""
        ...

    def exists(self) -> bool:
        """Whether there is a ledger already."""
        ...

    def forget(self) -> None:
        """Do away with the read models, which nobody has open; they are made again."""
        ...

    def recorder(self) -> LedgerRecorder:
        """The ledger's rows, opened; begun where there is no ledger yet."""
        ...

    def views(self, current_rules: Callable[[], Mapping[str, Rules]]) -> GenerationViews:
        """The read models, opened.

        `current_rules` tells the rules that changed meters are to be folded under when the first generation is begun.
        """
        ...
