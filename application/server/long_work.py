"""Work that goes through all of a ledger: one at a time, so that it never takes all the threads of a server."""

from collections.abc import Generator
from contextlib import contextmanager

from ...domain.errors import RebuildRunning
from .desk import Desk
from .refusals import Refusal


@contextmanager
def long_work(desk: Desk) -> Generator[None]:
    """Be the only one that works so on a desk's ledger, over all servers of it. Raises Refusal."""
    with desk.keeper.alone("long work") as is_alone:
        if not is_alone:
            raise Refusal(
                409, "Another request goes through all of the ledger now: rules are tried or changed, or it is "
                "verified. Try again later.", code=RebuildRunning.code, headers={"Retry-After": "5"},
            )  # fmt: skip
        yield
