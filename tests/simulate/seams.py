"""What is put in the product's way, so that one thread can play several processes and small ledgers have many pages."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

from tallybook.application.ledger import Ledger
from tallybook.application.stores import postgres_views, sqlite
from tallybook.application.stores.exclusion import exclusion

from ..faults.statements import blocks

PAGE = 5


@contextmanager
def replaced(original: object, replacement: object) -> Generator[None]:
    """Let every module of the package that names `original` name `replacement` for a while."""
    modules = [module for name, module in sys.modules.items() if name.startswith("tallybook.")]
    places = [(module, name) for module in modules for name, of in vars(module).items() if of is original]
    assert places, f"{original} is nowhere"
    for module, name in places:
        setattr(module, name, replacement)
    try:
        yield
    finally:
        for module, name in places:
            setattr(module, name, original)


@contextmanager
def method_replaced(owner: type, name: str, replace: Callable[[Any], Callable[..., Any]]) -> Generator[None]:
    """Let a class have another method for a while: what `replace` makes of its own."""
    original = getattr(owner, name)
    setattr(owner, name, replace(original))
    try:
        yield
    finally:
        setattr(owner, name, original)


@contextmanager
def small_pages() -> Generator[None]:
    """Let pages of the ledger hold few events, however they are read."""

    def replace(page: Callable[[Ledger, int, int], Any]) -> Callable[[Ledger, int, int], Any]:
        return lambda ledger, after, limit: page(ledger, after, min(limit, PAGE))

    with method_replaced(Ledger, "page", replace), method_replaced(Ledger, "page_at_once", replace):
        yield


@contextmanager
def short_patience() -> Generator[None]:
    """Let the store give up soon where it has to wait for a lock: nobody will let go of it meanwhile."""
    patience, sqlite.LOCK_TIMEOUT_SECONDS = sqlite.LOCK_TIMEOUT_SECONDS, 1
    try:
        yield
    finally:
        sqlite.LOCK_TIMEOUT_SECONDS = patience


class AtWork:
    """Who works on generations now: names of locks that are held, and connections that hold one."""

    def __init__(self) -> None:
        self.locks: list[str] = []
        self.connections: WeakSet[Any] = WeakSet()

    @property
    def is_anyone(self) -> bool:
        """Whether there is anyone."""
        return bool(self.locks) or any(map(blocks, self.connections))


@contextmanager
def no_waiting(at_work: AtWork) -> Generator[None]:
    """Let nobody wait for another process at work on generations, which can't go on meanwhile; keep in mind who is."""

    @contextmanager
    def excluded(database: str, *, wait_seconds: float) -> Generator[bool]:
        with exclusion(database, wait_seconds=0 * wait_seconds) as held:
            if held:
                at_work.locks.append(database)
            try:
                yield held
            finally:
                if held:
                    at_work.locks.remove(database)

    def locked(connection: Any, number: int, _: float) -> bool:
        is_held = is_locked(connection, number, 0)
        if is_held:
            at_work.connections.add(connection)
        return is_held

    is_locked = postgres_views._is_locked  # pyright: ignore[reportPrivateUsage]
    with replaced(exclusion, excluded), replaced(is_locked, locked):
        yield
