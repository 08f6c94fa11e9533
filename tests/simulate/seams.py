"""What is put in the product's way, so that one thread can play several processes and small ledgers have many pages."""

import sys
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tallybook.application.ledger import Ledger
from tallybook.application.stores import sqlite
from tallybook.application.stores.exclusion import exclusion
from tallybook.projections.rows import LedgerEvent

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


def small_pages() -> AbstractContextManager[None]:
    """Let pages of the ledger hold few events."""

    def replace(
        page: Callable[[Ledger, int, int], list[LedgerEvent]],
    ) -> Callable[[Ledger, int, int], list[LedgerEvent]]:
        return lambda ledger, after, limit: page(ledger, after, min(limit, PAGE))

    return method_replaced(Ledger, "page", replace)


@contextmanager
def short_patience() -> Generator[None]:
    """Let the store give up soon where it has to wait for a lock: nobody will let go of it meanwhile."""
    patience, sqlite.LOCK_TIMEOUT_SECONDS = sqlite.LOCK_TIMEOUT_SECONDS, 1
    try:
        yield
    finally:
        sqlite.LOCK_TIMEOUT_SECONDS = patience


def no_waiting(holders: list[str]) -> AbstractContextManager[None]:
    """Let nobody wait for another process, which can't go on meanwhile; keep in `holders` who works on generations."""

    @contextmanager
    def at_once(database: str, *, wait_seconds: float) -> Generator[bool]:
        with exclusion(database, wait_seconds=0 * wait_seconds) as held:
            if held:
                holders.append(database)
            try:
                yield held
            finally:
                if held:
                    holders.remove(database)

    return replaced(exclusion, at_once)
