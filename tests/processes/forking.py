"""Programs that fork child processes."""

import gc
import os
import subprocess
import sys
import traceback
from collections.abc import Callable

import pytest
from tallybook.domain.errors import LedgerUnavailable

from .usage import BATCH_SIZE, batch, count_and_sum, open_ledger, print_line


def fork(url: str, workers: str, batches: str) -> None:
    """Open a ledger, fork workers that record on their own, and print the exit status of each, then the totals."""
    with open_ledger(url) as metering:
        metering.record_many(batch("parent", 0))
        children = [
            _run_in_fork(lambda name=f"child{number}": record_and_check(url, name, batches))
            for number in range(int(workers))
        ]
        metering.record_many(batch("parent", 1))
        print_line(*(_exit_status(child) for child in children))
        metering.record_many(batch("parent", 2))
        print_line(*count_and_sum(metering))


def record_and_check(url: str, writer: str, batches: str) -> None:
    """Record batches, and check that they are counted."""
    with open_ledger(url) as metering:
        for number in range(int(batches)):
            metering.record_many(batch(writer, number))
        assert count_and_sum(metering)[0] >= int(batches) * BATCH_SIZE


def use_after_fork(url: str) -> None:
    """Use the parent's ledger in a forked child, which raises an error, and close it there; print the result."""
    with open_ledger(url) as metering:
        metering.record_many(batch("parent", 0))
        count_and_sum(metering)
        key_values = metering.key_value_store()
        calls: list[Callable[[], object]] = [
            lambda: count_and_sum(metering),
            lambda: metering.record_many(batch("child", 0)),
            lambda: metering.meters.configure("child"),
            lambda: metering.access_keys.create(name="child", scopes=["record"]),
            lambda: metering.event("parent/00000/000"),
            metering.verify,
            metering.generations.rebuild,
            lambda: key_values.get("a", ["b"]),
            lambda: key_values.try_lock("a").__enter__(),
        ]

        def use_parent_ledger() -> None:
            for call in calls:
                with pytest.raises(LedgerUnavailable, match="after the fork"):
                    call()
            metering.close()
            gc.collect()

        print_line(_exit_status(_run_in_fork(use_parent_ledger)))
        metering.record_many(batch("parent", 1))
        print_line(*count_and_sum(metering))


def outlive_parent(url: str) -> None:
    """Open a ledger in a forked child while the parent has it open, and record there after the parent has closed it."""
    parent_closed, close_parent = os.pipe()
    recorded, record_in_child = os.pipe()
    metering = open_ledger(url)
    metering.record_many(batch("parent", 0))
    count_and_sum(metering)

    def record_when_parent_has_closed() -> None:
        with open_ledger(url) as own:
            own.record_many(batch("child", 0))
            os.write(record_in_child, b"!")
            os.read(parent_closed, 1)
            own.record_many(batch("child", 1))

    child = _run_in_fork(record_when_parent_has_closed)
    os.read(recorded, 1)
    metering.close()
    os.write(close_parent, b"!")
    print_line(_exit_status(child))
    with open_ledger(url) as after:
        print_line(*count_and_sum(after))


def fork_twice(url: str) -> None:
    """Open a ledger, and record in the child of a child; print the exit status of the child, then the totals."""
    with open_ledger(url) as metering:
        metering.record_many(batch("parent", 0))
        count_and_sum(metering)

        def fork_again() -> None:
            assert _exit_status(_run_in_fork(lambda: record_and_check(url, "grandchild", "1"))) == 0

        print_line(_exit_status(_run_in_fork(fork_again)))
        metering.record_many(batch("parent", 1))
        print_line(*count_and_sum(metering))


def fork_during_transaction(url: str) -> None:
    """Fork in a transaction. The child cannot open the ledger, and its exit harms no later write-ahead log."""
    parent_closed, close_parent = os.pipe()
    metering = open_ledger(url)
    metering.record_many(batch("parent", 0))
    with metering._ledger.ledger_recorder.exclusive():  # pyright: ignore[reportPrivateUsage]
        child = os.fork()
        if child == 0:
            with pytest.raises(LedgerUnavailable, match="when it forked this process"):
                open_ledger(url)
            os.read(parent_closed, 1)
            sys.exit()  # not os._exit: the interpreter deallocates what it can
    metering.record_many(batch("parent", 1))
    metering.close()
    program = [sys.executable, "-m", f"{__package__}.programs", record_and_crash.__name__, url]
    subprocess.run(program, check=False)
    os.write(close_parent, b"!")
    print_line(_exit_status(child))
    with open_ledger(url) as after:
        print_line(*count_and_sum(after))


def record_and_crash(url: str) -> None:
    """Record a batch and end without closing the ledger."""
    metering = open_ledger(url)
    metering.record_many(batch("crashed", 0))
    os._exit(1)


def _exit_status(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _run_in_fork(function: Callable[[], None]) -> int:
    """Run a function in a child that exits without cleaning up what it shares with its parent."""
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
