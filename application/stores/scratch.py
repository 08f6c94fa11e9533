"""Folders for what is only needed for a while: gone at the end, or, after a kill, when the next one is made."""

import glob
import shutil
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ...domain.errors import LedgerUnavailable
from .exclusion import exclusion

_LOCKED = "scratch"


def _folder(prefix: str, parent: Path) -> "TemporaryDirectory[str]":
    try:
        return TemporaryDirectory(prefix=prefix, dir=parent)
    except OSError as error:
        raise LedgerUnavailable(
            f"No folder can be made in {str(parent)!r}: {error.strerror or error}. A fresh fold of the ledger needs "
            "room there for a while, and the right to write.",
            field="url",
            value=str(parent),
        ) from error


@contextmanager
def scratch_folder(beside: Path) -> Generator[Path]:
    """A folder beside a file. Those left behind by programs that were killed are removed first.

    Each is locked by who made it, and the operating system lets go of the lock when that program ends.
    """
    prefix = f"{beside.name}.scratch-"
    for left in beside.parent.glob(f"{glob.escape(prefix)}*"):
        with exclusion(str(left / _LOCKED), wait_seconds=0) as abandoned:
            if abandoned:
                shutil.rmtree(left, ignore_errors=True)
    while True:
        with ExitStack() as kept:
            folder = Path(kept.enter_context(_folder(prefix, beside.parent)))
            held = kept.enter_context(exclusion(str(folder / _LOCKED), wait_seconds=0))
            if held and folder.exists():  # or another took it for left behind before it was locked
                yield folder
                return
