"""Hashes leaves in a worker process with the lowest priority, so that a process that records goes on undisturbed.

Hashing an event takes about 3 µs, in which no other thread of a Python process runs. A program that records in batches
takes less than 10 µs for one, so hashing in the same process would take a third of its throughput.
"""

import logging
import os
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple, Protocol, TypeVar

from ...projections.ports import WorkerLost
from ..ledger.ledger import Ledger
from ..storage.ports import EventRecorder, Store
from .leaves import ChangeKind, RawRowReader, UnexpectedPosition, hash_pages
from .merkle import Tree

Result = TypeVar("Result")
_log = logging.getLogger("tallybook")
MIN_EVENTS = 20_000
"""Fewer events are hashed before a worker has started."""


class HashedBlocks(NamedTuple):
    """The roots of full blocks, and the leaf hashes one after the other, also those after the last full block.

    `unexpected` is the position that isn't as expected, with how, if the blocks end there.
    """

    roots: list[bytes]
    leaves: bytes
    unexpected: tuple[int, ChangeKind] | None = None


BlockHasher = Callable[[int, int, int], HashedBlocks]
"""Hashes the blocks of the positions from the first to the last one, given the number of events of a block."""


class WorkerProcess(Protocol):
    """A process that calls functions. The methods raise WorkerLost. A worker that is lost is killed."""

    def wait_until_ready(self) -> None: ...  # noqa: D102
    def call(self, function: Callable[..., Result], *arguments: object) -> Result: ...  # noqa: D102
    def terminate(self) -> None: ...  # noqa: D102


@contextmanager
def low_priority_hasher(start_worker: Callable[[], WorkerProcess], ledger: Ledger) -> Generator[BlockHasher]:
    """Start a worker, and return what hashes blocks there. The worker ends with the block.

    If it can't be started or is killed, this process hashes them.
    """

    def hash_in_worker(first: int, last: int, block_size: int) -> HashedBlocks:
        nonlocal worker
        try:
            if worker is not None:
                return worker.call(hash_with_low_priority, ledger.store, first, last, block_size)
        except WorkerLost as error:
            _log.warning("The process that hashes events with a low priority ended (%s); this process goes on.", error)
            worker = None
        return hash_blocks(ledger, first, last, block_size)

    with ExitStack() as stack:
        worker: WorkerProcess | None = None
        with suppress(OSError, WorkerLost):
            worker = start_worker()
            stack.callback(worker.terminate)
            worker.wait_until_ready()
        yield hash_in_worker


def hash_blocks(ledger: RawRowReader, first: int, last: int, block_size: int) -> HashedBlocks:
    """Return the hashes of the positions `first` to `last`. A block starts at the first one."""
    leaves = list[bytes]()
    unexpected: tuple[int, ChangeKind] | None = None
    try:
        for page in hash_pages(ledger, first, last):
            leaves += page
    except UnexpectedPosition as error:
        unexpected = error.position, error.kind
    full = range(0, len(leaves) - block_size + 1, block_size)
    return HashedBlocks([_root(leaves[at : at + block_size]) for at in full], b"".join(leaves), unexpected)


def hash_with_low_priority(store: Store, first: int, last: int, block_size: int) -> HashedBlocks:
    """Return the hashes of positions of a store, in this process, which gets the lowest priority."""
    return hash_blocks(_low_priority_recorder(store), first, last, block_size)


def _root(leaves: list[bytes]) -> bytes:
    tree = Tree()
    tree.extend(leaves)
    return tree.root()


_recorders: dict[str, EventRecorder] = {}
"""The recorder that this process has opened with a low priority, by the location of its store."""


def _low_priority_recorder(store: Store) -> EventRecorder:
    """Return the recorder of a store. It only reads, so it never makes another process wait for a lock."""
    if store.location not in _recorders:
        with suppress(AttributeError, OSError):  # not on every system
            os.setpriority(os.PRIO_PROCESS, 0, 19)
        _recorders[store.location] = store.open_recorder()
    return _recorders[store.location]
