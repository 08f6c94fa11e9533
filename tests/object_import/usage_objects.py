"""Usage as the contents of objects, in each format, and what a ledger counts of it."""

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

from tallybook.application import Metering

arrow: Any = import_module("pyarrow")
parquet: Any = import_module("pyarrow.parquet")
NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)
MONTH = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
TIMESTAMP = "2026-11-10T11:00:00Z"
COLUMNS = ("identifier", "timestamp", "event_name", "payload_customer", "payload_tokens")
Cells = Sequence[object]


def configure(metering: Metering) -> None:
    """Configure the meter of the usage."""
    metering.meters.configure("tokens", customer_key="customer", value_key="tokens")


def rows(*identifiers: str, value: object = 1) -> list[Cells]:
    """Return a row for each identifier."""
    return [(identifier, TIMESTAMP, "tokens", "acme", value) for identifier in identifiers]


def csv_of(content: Iterable[Cells], columns: Sequence[str] = COLUMNS) -> bytes:
    """Return rows as CSV."""
    text = io.StringIO()
    csv.writer(text).writerows([columns, *content])
    return text.getvalue().encode()


def jsonl_of(content: Iterable[Cells]) -> bytes:
    """Return rows as JSONL."""
    return "".join(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in content).encode()


def json_of(content: Iterable[Cells]) -> bytes:
    """Return rows as JSON."""
    return json.dumps([dict(zip(COLUMNS, row, strict=True)) for row in content]).encode()


def parquet_of(content: Iterable[Cells]) -> bytes:
    """Return rows as Parquet."""
    columns = dict(zip(COLUMNS, map(list, zip(*content, strict=True)), strict=True))
    file = io.BytesIO()
    parquet.write_table(arrow.table(columns), file)
    return file.getvalue()


def zipped(write: Callable[[Iterable[Cells]], bytes]) -> Callable[[Iterable[Cells]], bytes]:
    """Return a function that compresses what another one returns."""
    return lambda content: gzip.compress(write(content))


FORMATS: Mapping[str, Callable[[Iterable[Cells]], bytes]] = {
    "a.csv": csv_of,
    "b.csv.gz": zipped(csv_of),
    "c.jsonl": jsonl_of,
    "d.jsonl.gz": zipped(jsonl_of),
    "e.json": json_of,
    "f.parquet": parquet_of,
}

_versions = count(1)


def put(folder: Path, key: str, content: bytes) -> None:
    """Store an object in a folder, with an ETag of its own also if it is replaced within a moment."""
    file = folder / key
    file.parent.mkdir(parents=True, exist_ok=True)
    replacement = file.with_name(f"new-{next(_versions)}")
    replacement.write_bytes(content)
    replacement.replace(file)


def counted(metering: Metering) -> tuple[int, int]:
    """Return the number of meter events, and the sum of their values."""
    total = metering.total("tokens", "acme", *MONTH)
    return total.count, int(total.sum or 0)
