"""Folding: a whole ledger into fresh read models, against SQLite's own GROUP BY over the same events."""

from pathlib import Path

from . import raw, usage
from .measure import Measured, agree, in_turns, rate, seconds, speed_ratio, spread

MARK = 0.5
GROUP_BY = """
SELECT json_extract(e, '$.event_name'), json_extract(e, '$.payload.customer'), count(*),
       sum(json_extract(e, '$.payload.tokens'))
FROM (SELECT CAST(state AS TEXT) AS e FROM stored_events WHERE topic = 'UsageRecorded')
GROUP BY 1, 2 ORDER BY 2
"""


def measure(ledger: Path, events: int, times: int) -> Measured:
    """Both from the ledger alone to count and sum of every customer."""
    grouped: list[list[tuple[str, int, int]]] = []

    def ours() -> float:
        usage.delete(usage.views_of(ledger))
        with usage.opened(ledger) as metering:
            took = seconds(metering.catch_up)
            totals = metering.totals("tokens", usage.START, usage.END)
        agree("events folded", sum(total.count for total in totals), events)
        grouped.append([(str(total.customer), total.count, int(total.sum)) for total in totals])
        return took

    def theirs() -> float:
        connection = raw.connected(ledger)
        rows: list[tuple[str, str, int, int]] = []
        took = seconds(lambda: rows.extend(connection.execute(GROUP_BY)))
        connection.close()
        grouped.append([(customer, count, int(total)) for _, customer, count, total in rows])
        return took

    took = in_turns(ours, theirs, times)
    for answer in grouped:
        agree("counts and sums by customer", answer, grouped[0])
    ratio = speed_ratio(*took)
    return Measured(
        f"catch_up / GROUP BY json_extract, {events:,} events",
        ratio,
        f">= {MARK}",
        ratio >= MARK,
        {"ours": rate(events, took[0]), "theirs": rate(events, took[1]), "turns": spread(*took)},
    )
