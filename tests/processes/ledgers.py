"""Helpers that read a stored ledger without the application, on SQLite and on PostgreSQL."""

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from subprocess import Popen
from typing import Any

import psycopg

from .usage import count_and_sum, open_ledger

Row = tuple[Any, ...]


def ledger_file(url: str) -> Path:
    """Return the file of a ledger URL."""
    return Path(url.removeprefix("sqlite:///"))


def rows(url: str, statement: str) -> list[Row]:
    """Return the rows of a statement on the ledger."""
    return _rows(url, statement, "")


def read_model_rows(url: str, statement: str) -> list[Row]:
    """Return the rows of a statement on the read models."""
    return _rows(url, statement, "read_models")


def delete_read_models(url: str) -> None:
    """Delete the read models of a ledger that no process has open."""
    if url.startswith("sqlite"):
        for suffix in (".read-models", ".read-models-wal", ".read-models-shm"):
            Path(f"{ledger_file(url)}{suffix}").unlink(missing_ok=True)
    else:
        database, schema = _database_and_schema(url)
        with psycopg.connect(database) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {schema}_read_models CASCADE".encode())


def positions(url: str) -> list[int]:
    """Return all positions, in order."""
    return [row[0] for row in rows(url, "SELECT position FROM stored_events ORDER BY position")]


def batch_sizes(url: str) -> Counter[str]:
    """Return the number of stored events of each batch."""
    streams = rows(url, "SELECT originator_id FROM stored_events WHERE topic = 'UsageRecorded'")
    return Counter(stream.rpartition("/")[0].removeprefix("event/") for (stream,) in streams)


def live_rows(url: str) -> list[Row]:
    """Return all rows of the live generation; the order has no meaning."""
    ((live,),) = read_model_rows(url, "SELECT generation FROM generations WHERE state = 'live'")
    tables = ("meters", "customers", "usage", "totals")
    return [row for table in tables for row in sorted(read_model_rows(url, f"SELECT * FROM {table}_{live}"))]


def projected_and_replayed_totals(url: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return count and sum from the read models, and from a replay of the ledger."""
    with open_ledger(url) as metering:
        projected = count_and_sum(metering)
    delete_read_models(url)
    with open_ledger(url) as metering:
        return projected, count_and_sum(metering)


def read_numbers(process: "Popen[str]", timeout_seconds: float = 60) -> list[list[int]]:
    """Return the numbers that a program printed, line by line, after it exited with status 0."""
    stdout, stderr = process.communicate(timeout=timeout_seconds)
    assert process.returncode == 0, stderr
    return [[int(number) for number in line.split()] for line in stdout.splitlines() if line != "ready"]


def _rows(url: str, statement: str, part: str) -> list[Row]:
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(f"{ledger_file(url)}{part and '.'}{part.replace('_', '-')}")) as connection:
            return connection.execute(statement).fetchall()
    database, schema = _database_and_schema(url)
    with psycopg.connect(database, options=f"-c search_path={schema}{part and '_'}{part}") as connection:
        return connection.execute(statement.encode()).fetchall()


def _database_and_schema(url: str) -> tuple[str, str]:
    database, _, schema = url.rpartition("schema=")
    return database.rstrip("&?"), schema
