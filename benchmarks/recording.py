"""Recording: `record_many` in batches of 1,000, against `executemany` of the same rows."""

from pathlib import Path

from . import raw, usage
from .measure import Measured, agree, in_turns, rate, seconds, speed_ratio, spread

MARK = 0.3


def measure(folder: Path, events: int, times: int) -> Measured:
    """Both into fresh files, with the same schema, pragmas and transactions; the same rows come out."""
    ledger, other = folder / "recorded.db", folder / "inserted.db"
    reports = list(usage.batches(events))
    usage.record(ledger, events)
    rows, statements = raw.stored_rows(ledger), raw.schema(ledger)
    agree("events recorded", len(rows), events + 1)

    def ours() -> float:
        usage.delete(ledger)
        usage.delete(usage.views_of(ledger))
        with usage.opened(ledger) as metering:

            def record() -> None:
                for batch in reports:
                    metering.record_many(batch)

            took = seconds(record)
        agree("rows recorded", raw.stored_rows(ledger), rows)
        return took

    def theirs() -> float:
        usage.delete(other)
        connection = raw.connected(other)
        for statement in statements:
            connection.execute(statement)
        insert = "INSERT INTO stored_events (originator_id, originator_version, topic, state) VALUES (?,?,?,?)"
        connection.executemany(insert, rows[:1])
        batches = [rows[first : first + usage.BATCH] for first in range(1, len(rows), usage.BATCH)]

        def insert_all() -> None:
            for batch in batches:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(insert, batch)
                connection.execute("COMMIT")

        took = seconds(insert_all)
        connection.close()
        agree("rows inserted", raw.stored_rows(other), rows)
        return took

    took = in_turns(ours, theirs, times)
    ratio = speed_ratio(*took)
    return Measured(
        f"record_many / executemany, {events:,} events",
        ratio,
        f">= {MARK}",
        ratio >= MARK,
        {"ours": rate(events, took[0]), "theirs": rate(events, took[1]), "turns": spread(*took)},
    )
