"""Logging of the server: JSON lines on stderr."""

import logging
import sys
from datetime import UTC, datetime

import msgspec


class LogLine(msgspec.Struct, omit_defaults=True):
    """One line of the log."""

    time: str
    level: str
    logger: str
    message: str
    trace: str = ""


class JsonFormatter(logging.Formatter):
    """Formats a log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        line = LogLine(at, record.levelname.lower(), record.name, record.getMessage(), trace)
        return msgspec.json.encode(line).decode()


def log_to_stderr() -> None:
    """Write logs to stderr as JSON. Records of the access log are JSON already."""
    json_handler, plain_handler = logging.StreamHandler(sys.stderr), logging.StreamHandler(sys.stderr)
    json_handler.setFormatter(JsonFormatter())
    for name, handler, level in (
        ("", json_handler, logging.WARNING),
        ("tallybook.server", json_handler, logging.INFO),
        ("tallybook.access", plain_handler, logging.INFO),
    ):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
