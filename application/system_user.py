"""The user of the operating system that this process runs as. A caller can't state another one."""

import os
from functools import lru_cache

from ..domain.authorship import LIBRARY


def system_user() -> str:
    """Return the name of the user that this process runs as, or its number if it has no name.

    The environment, which names any user, is not read.
    """
    if hasattr(os, "getuid"):
        return _user_name(os.getuid())
    try:
        return os.getlogin()  # on Windows
    except OSError:
        return "unknown user"


def library() -> str:
    """Return how this process reaches a ledger that it embeds."""
    return f"{LIBRARY}:{system_user()}"


@lru_cache(maxsize=8)
def _user_name(number: int) -> str:
    import pwd  # noqa: PLC0415 - not on Windows

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # as in many containers
        return str(number)
