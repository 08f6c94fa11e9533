"""Patches of the package that let one thread act as several processes, and give small ledgers many pages."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

from tallybook.application.ledger.ledger import Ledger
from tallybook.application.storage.file_lock import file_lock
from tallybook.application.storage.postgres import read_models
from tallybook.application.storage.sqlite import connection

from ..faults.statements import holds_write_lock

PAGE = 5


@contextmanager
def patch_everywhere(original: object, replacement: object) -> Generator[None]:
    """Replace `original` in every module of the package that imports it, inside the context."""
    modules = [module for name, module in sys.modules.items() if name.startswith("tallybook.")]
    references = [(module, name) for module in modules for name, value in vars(module).items() if value is original]
    assert references, f"{original} is nowhere"
    for module, name in references:
        setattr(module, name, replacement)
    try:
        yield
    finally:
        for module, name in references:
            setattr(module, name, original)


@contextmanager
def patch_method(owner: type, name: str, replace: Callable[[Any], Callable[..., Any]]) -> Generator[None]:
    """Replace a method of a class by `replace(method)`, inside the context."""
    original = getattr(owner, name)
    setattr(owner, name, replace(original))
    try:
        yield
    finally:
        setattr(owner, name, original)


@contextmanager
def small_pages() -> Generator[None]:
    """Limit every page of the ledger to a few events, however it is read."""

    def replace(page: Callable[[Ledger, int, int], Any]) -> Callable[[Ledger, int, int], Any]:
        return lambda ledger, after, limit: page(ledger, after, min(limit, PAGE))

    with patch_method(Ledger, "read_page", replace), patch_method(Ledger, "read_page_bulk", replace):
        yield


@contextmanager
def short_lock_timeout() -> Generator[None]:
    """Set short lock timeouts in the store: no other operation can release a lock during the wait."""
    original_timeout, connection.LOCK_TIMEOUT_SECONDS = connection.LOCK_TIMEOUT_SECONDS, 1
    try:
        yield
    finally:
        connection.LOCK_TIMEOUT_SECONDS = original_timeout


class ActiveOperations:
    """The operations on generations in progress: names of the held locks, and the connections that hold one."""

    def __init__(self) -> None:
        self.locks: list[str] = []
        self.connections: WeakSet[Any] = WeakSet()

    @property
    def is_any_active(self) -> bool:
        """Whether any operation is in progress."""
        return bool(self.locks) or any(map(holds_write_lock, self.connections))


@contextmanager
def without_lock_waits(active_operations: ActiveOperations) -> Generator[None]:
    """Don't wait for generation locks, since no other operation can release one meanwhile; record the holders."""

    @contextmanager
    def try_file_lock(path: str, *, timeout_seconds: float, **options: int) -> Generator[bool]:
        with file_lock(path, timeout_seconds=0 * timeout_seconds, **options) as is_held:
            if is_held:
                active_operations.locks.append(path)
            try:
                yield is_held
            finally:
                if is_held:
                    active_operations.locks.remove(path)

    def try_advisory_lock(connection: Any, number: int, _: float) -> bool:
        is_held = is_locked(connection, number, 0)
        if is_held:
            active_operations.connections.add(connection)
        return is_held

    is_locked = read_models._try_advisory_lock  # pyright: ignore[reportPrivateUsage]
    with patch_everywhere(file_lock, try_file_lock), patch_everywhere(is_locked, try_advisory_lock):
        yield
