"""The rule for forks, on both stores: a ledger belongs to the process that opened it."""

import os

from ...domain.errors import LedgerUnavailable

OPENED_BEFORE_FORK = (
    "The ledger was opened before this process was forked, and its connections belong to the parent process. Open the "
    "ledger in this process, after the fork."
)


def require_owner_process(process_id: int) -> None:
    """Raise LedgerUnavailable unless this is the process that opened the ledger."""
    if os.getpid() != process_id:
        raise LedgerUnavailable(OPENED_BEFORE_FORK)
