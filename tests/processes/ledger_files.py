"""What a ledger file holds, looked up past the application."""

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from subprocess import Popen

from .programs import figures, opened


def file_of(url: str) -> Path:
    """The file of a ledger URL."""
    return Path(url.removeprefix("sqlite:///"))


def delete_views(url: str) -> None:
    """Delete the read models of a ledger that nobody has open."""
    for suffix in (".views", ".views-wal", ".views-shm"):
        Path(f"{file_of(url)}{suffix}").unlink(missing_ok=True)


def positions(url: str) -> list[int]:
    """All positions, in order."""
    with closing(sqlite3.connect(file_of(url))) as connection:
        return [row[0] for row in connection.execute("SELECT position FROM stored_events ORDER BY position")]


def batch_sizes(url: str) -> Counter[str]:
    """How many events of each batch there are."""
    with closing(sqlite3.connect(file_of(url))) as connection:
        streams = connection.execute("SELECT originator_id FROM stored_events WHERE topic = 'UsageRecorded'")
        return Counter(stream.rpartition("/")[0].removeprefix("event/") for (stream,) in streams)


def read_and_fresh_figures(url: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Count and sum as the read models have them, and as a fresh fold does."""
    with opened(url) as metering:
        standing = figures(metering)
    delete_views(url)
    with opened(url) as metering:
        return standing, figures(metering)


def finished(process: "Popen[str]") -> list[list[int]]:
    """The numbers that a program told, line by line, once it ended well."""
    said, complained = process.communicate(timeout=60)
    assert process.returncode == 0, complained
    return [[int(word) for word in line.split()] for line in said.splitlines() if line != "ready"]
