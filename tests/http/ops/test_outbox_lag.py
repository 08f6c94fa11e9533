"""The lag of an outbox in /readyz and /metrics."""

import math
import sqlite3
from contextlib import closing
from pathlib import Path

from tallybook.application import Metering, Outbox

from tests.http.running_server import create_key, serve
from tests.waiting import wait_until

from .test_observability import metric_labels, parse_metrics


def test_the_lag_of_an_outbox_is_reported(tmp_path: Path) -> None:
    """Waiting and rejected rows, and the age; a server whose outbox can't be read is still ready."""
    url, file = f"sqlite:///{tmp_path}/usage.db", tmp_path / "shop.db"
    with Metering.open(url) as metering, closing(sqlite3.connect(file)) as connection:
        outbox = Outbox(metering, f"sqlite:///{file}")
        outbox.create_table(connection)
        outbox.record(connection, "tokens", {"customer": "acme"})
        connection.commit()
        assert outbox.relay().rejected == 1
        outbox.record_many(connection, [{"event_name": "tokens", "payload": {"customer": "acme"}}] * 2)
        connection.commit()
    key = create_key(url, "read")
    with serve(url, TALLYBOOK_OUTBOX=f"sqlite:///{file}") as server:
        assert (
            server.get("/readyz").json()["outbox"].items() >= {"status": "ready", "waiting": 2, "rejected": 1}.items()
        )
        samples = parse_metrics(server.get("/metrics", key).text)
        names = ("waiting", "rejected", "age_seconds")
        waiting, rejected, age = (samples[f"tallybook_outbox_{name}", metric_labels()] for name in names)
        assert (waiting, rejected) == (2, 1)
        assert age > 0
        file.unlink()
        wait_until(lambda: server.get("/readyz").json()["outbox"] == {"status": "unavailable"})
        assert server.get("/readyz").json()["status"] == "ready"
        samples = parse_metrics(server.get("/metrics", key).text)
        assert math.isnan(samples["tallybook_outbox_waiting", metric_labels()])
