"""Who caused an event, and how: what every event is stored with besides its time.

`acting_as` sets the author of everything that the current thread or task does. Only the program that authenticated the
author calls it: the HTTP server with the access key, the command line with the user of the operating system. A name
that a call states can't replace that author: it is stored in addition, as `on_behalf_of`. If no author is set, the name
that a call states is the author, because the program that embeds the ledger is the one to know.
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import msgspec

LIBRARY = "library"
COMMAND_LINE = "command_line"
HTTP = "http"
OUTBOX = "outbox"
REQUEST_PREFIX = "req_"
"""`via` of an event that an HTTP request caused is the id of the request, which begins with this."""

AcceptedUnder = dict[str, timedelta | None]
"""The limits of the acceptance policy that an event exceeds by default, as they were set; None is no limit."""


class Author(msgspec.Struct, frozen=True):
    """The author of an event: `by` whom, and `via` what it reached the ledger.

    `via` is `library`, `command_line` or `outbox`, or the id of an HTTP request. The first three may be followed by a
    colon and the user of the operating system that the process ran as. `on_behalf_of` is the name that the author
    stated for somebody else. A change that was proposed has its proposer as the author; `approved_by` is who approved
    it, and `proposal_id` names the proposal.
    """

    by: str | None
    via: str = LIBRARY
    on_behalf_of: str | None = None
    approved_by: str | None = None
    proposal_id: str | None = None

    @property
    def is_library(self) -> bool:
        """Whether a program that embeds the ledger acts."""
        return self.via.partition(":")[0] == LIBRARY


_acting: ContextVar[Author | None] = ContextVar("tallybook_author", default=None)


@contextmanager
def acting_as(author: Author) -> Generator[None]:
    """Make `author` the author of all events that the current thread or task causes in the block."""
    token = _acting.set(author)
    try:
        yield
    finally:
        _acting.reset(token)


def current_author() -> Author | None:
    """Return the author of the events that the current thread or task causes; None if none is set."""
    return _acting.get()


def authorship(stated: str | None) -> dict[str, Any]:
    """Return the fields `by`, `via`, `on_behalf_of` and so on of an event, given the name that the call states."""
    author = resolve_author(stated)
    if author.via == "":
        return {"by": author.by}
    return msgspec.structs.asdict(author)


def resolve_author(stated: str | None) -> Author:
    """Return the author of an event, given the name that the call states. `via` is empty if nobody acts."""
    author = _acting.get()
    if author is None:
        return Author(stated, "")
    if author.by is None:
        return msgspec.structs.replace(author, by=stated)
    other = stated if stated not in (None, author.by) else author.on_behalf_of
    return msgspec.structs.replace(author, on_behalf_of=other)
