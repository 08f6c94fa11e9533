"""What Ctrl-C leaves behind, told: long work can be ended at any moment and loses nothing."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

import typer

from ...domain.errors import TallybookError
from .session import Session, told

INTERRUPTED = 130
"""What shells give for a command that Ctrl-C ended."""


class Interrupted(TallybookError):
    """The command was interrupted."""

    code = "interrupted"


@contextmanager
def interruptible(session: Session, left_behind: Callable[[], str]) -> Generator[None]:
    """Where Ctrl-C ends what is done, tell what is left behind, and end the command with status 130."""
    try:
        yield
    except KeyboardInterrupt:
        told(Interrupted(left_behind()), in_json=session.as_json)
        raise typer.Exit(INTERRUPTED) from None
