"""The access log: one line of JSON for each answer, without anything that a request says."""

import logging
from datetime import UTC, datetime

import msgspec

from .seen import Seen
from .wire import encode

ACCESS = logging.getLogger("tallybook.access")


class Line(msgspec.Struct, omit_defaults=True):
    """A line of the access log. Sizes are in bytes; `key` is the key's id, which opens nothing."""

    time: str
    request_id: str
    method: str
    path: str
    status: int
    milliseconds: float
    bytes_in: int
    bytes_out: int
    client: str
    operation: str = ""
    key: str = ""
    events: int = 0


def log_answer(seen: Seen) -> None:
    """Write a line."""
    line = Line(
        datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        seen.request_id, seen.method, seen.path, seen.status, round(seen.seconds * 1000, 3),
        seen.bytes_in, seen.bytes_out, seen.client, seen.operation, seen.key, seen.events,
    )  # fmt: skip
    ACCESS.info(encode(line).decode())
