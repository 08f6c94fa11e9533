"""Programs that fork children of their own."""

import os
import sys
import traceback
from collections.abc import Callable

import pytest
from tallybook.domain.errors import LedgerUnavailable

from .usage import BATCH, batch, figures, opened, tell


def fork(url: str, workers: str, batches: str) -> None:
    """Open a ledger, and fork workers that record on their own; tell how each ended, and the figures."""
    with opened(url) as metering:
        metering.record_many(batch("parent", 0))
        children = [_forked(lambda name=f"child{number}": work(url, name, batches)) for number in range(int(workers))]
        metering.record_many(batch("parent", 1))
        tell(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
        metering.record_many(batch("parent", 2))
        tell(*figures(metering))


def work(url: str, writer: str, batches: str) -> None:
    """Record batches, and see them."""
    with opened(url) as metering:
        for number in range(int(batches)):
            metering.record_many(batch(writer, number))
        assert figures(metering)[0] >= int(batches) * BATCH


def use_after_fork(url: str) -> None:
    """Use what the parent has opened in a forked child, which is refused, and let it go there; tell that."""
    with opened(url) as metering:
        metering.record_many(batch("parent", 0))
        figures(metering)

        def misuse() -> None:
            with pytest.raises(LedgerUnavailable, match="fork"):
                figures(metering)
            with pytest.raises(LedgerUnavailable, match="fork"):
                metering.record_many(batch("child", 0))
            metering.close()

        tell(os.waitstatus_to_exitcode(os.waitpid(_forked(misuse), 0)[1]))
        metering.record_many(batch("parent", 1))
        tell(*figures(metering))


def _forked(do: Callable[[], None]) -> int:
    """Do something in a child that leaves without a word to what it shares with its parent."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            do()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return child
