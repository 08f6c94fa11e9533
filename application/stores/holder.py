"""Who works on generations: one at a time, and others are told who it is."""

import os
import platform
from datetime import UTC, datetime

from ...domain.errors import RebuildRunning

PATIENCE_SECONDS = 2


def described(doing: str) -> str:
    """Who this program is, and what it is doing."""
    return f"process {os.getpid()} on {platform.node()} is {doing}, since {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def refused(holder: str | None) -> RebuildRunning:
    """The refusal of all others; `holder` is None where the one at work has not said yet what it does."""
    who = "another program is beginning to" if holder is None else holder
    return RebuildRunning(f"Only one may work on generations at a time: {who}. Try again later.")
