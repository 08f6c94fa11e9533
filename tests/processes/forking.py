"""Programs that fork children of their own."""

import os
import sys
import traceback
from collections.abc import Callable

import pytest
from tallybook.domain.errors import LedgerUnavailable

from .usage import BATCH_SIZE, batch, count_and_sum, open_ledger, print_line


def fork(url: str, workers: str, batches: str) -> None:
    """Open a ledger, and fork workers that record on their own; tell how each ended, and the figures."""
    with open_ledger(url) as metering:
        metering.record_many(batch("parent", 0))
        children = [
            _run_in_fork(lambda name=f"child{number}": record_and_check(url, name, batches))
            for number in range(int(workers))
        ]
        metering.record_many(batch("parent", 1))
        print_line(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
        metering.record_many(batch("parent", 2))
        print_line(*count_and_sum(metering))


def record_and_check(url: str, writer: str, batches: str) -> None:
    """Record batches, and see them."""
    with open_ledger(url) as metering:
        for number in range(int(batches)):
            metering.record_many(batch(writer, number))
        assert count_and_sum(metering)[0] >= int(batches) * BATCH_SIZE


def use_after_fork(url: str) -> None:
    """Use what the parent has opened in a forked child, which is refused, and let it go there; tell that."""
    with open_ledger(url) as metering:
        metering.record_many(batch("parent", 0))
        count_and_sum(metering)

        def use_parent_ledger() -> None:
            with pytest.raises(LedgerUnavailable, match="fork"):
                count_and_sum(metering)
            with pytest.raises(LedgerUnavailable, match="fork"):
                metering.record_many(batch("child", 0))
            metering.close()

        print_line(os.waitstatus_to_exitcode(os.waitpid(_run_in_fork(use_parent_ledger), 0)[1]))
        metering.record_many(batch("parent", 1))
        print_line(*count_and_sum(metering))


def _run_in_fork(function: Callable[[], None]) -> int:
    """Do something in a child that leaves without a word to what it shares with its parent."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return child
