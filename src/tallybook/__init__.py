"""Tallybook: an event-sourced usage ledger for billing.

`Metering.open` opens a ledger. The public API is the names in `tallybook.__all__`; they are loaded when they are first
used, so that worker processes and `tallybook --help` start quickly.
"""

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from .application import *  # noqa: F403

    __version__: str


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - reading the metadata takes milliseconds

        return version("tallybook")
    if name.startswith("__") and name != "__all__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    application = import_module(".application", __name__)
    return [*application.__all__, "__version__"] if name == "__all__" else getattr(application, name)


def __dir__() -> list[str]:
    return [*globals(), *cast("list[str]", __getattr__("__all__"))]
