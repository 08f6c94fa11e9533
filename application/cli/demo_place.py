"""Where the demo begins its ledger: never where something is."""

from itertools import count
from pathlib import Path

from ...domain.errors import InvalidLedgerUrl
from ..ledger_url import locate
from ..stores.store import Store

_FILE = "tallybook-demo{}.db"


def free_url() -> str:
    """A file of the demo's own in this folder: the first of its names that is free."""
    numbered = (_FILE.format("" if number == 1 else f"-{number}") for number in count(1))
    return "sqlite:///" + next(name for name in numbered if not Path(name).exists())


def new_store(url: str) -> Store:
    """Where the ledger at `url` will be. Raises InvalidLedgerUrl where something is there already."""
    store = locate(url)
    if not store.is_lasting:
        raise InvalidLedgerUrl("The demo leaves its ledger to be explored; give it a file.", field="url", value=url)
    if store.exists():
        raise InvalidLedgerUrl(
            f"{store.place} exists already, and the demo begins a ledger of its own; give another name.", field="url"
        )
    return store
