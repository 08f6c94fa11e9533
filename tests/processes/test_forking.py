"""A server that forks its workers: each opens the ledger for itself, and nobody harms what another has open."""

from contextlib import closing

from ..postgres import Database
from .conftest import Start
from .ledgers import finished, positions, read_and_fresh_figures
from .test_positions import until
from .usage import BATCH, VALUE, batch, figures, opened

OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'leaking'"


def test_forked_workers_record_beside_their_parent(start: Start, url: str) -> None:
    """All that parent and children have recorded is there, and the parent's own goes on working."""
    statuses, (count, total) = finished(start("fork", url, 4, 5))
    assert statuses == [0] * 4
    assert (count, total) == (23 * BATCH, 23 * BATCH * VALUE)
    assert positions(url) == list(range(1, count + 2))
    assert read_and_fresh_figures(url) == ((count, total),) * 2


def test_a_forked_child_is_told_to_open_the_ledger_for_itself(start: Start, postgres: Database) -> None:
    """It can't use its parent's connections, nor end them; the parent goes on."""
    status, counted = finished(start("use_after_fork", postgres.fresh_url()))
    assert status == [0]
    assert counted == [2 * BATCH, 2 * BATCH * VALUE]


def test_a_closed_ledger_leaves_no_connections(postgres: Database) -> None:
    """However it was used: while it is open it has some, and none from then on."""
    url = postgres.fresh_url().replace("schema=", "application_name=leaking&schema=")
    with closing(postgres.connect()) as connection:
        with opened(url) as metering:
            metering.record_many(batch("w", 0))
            candidate = metering.rebuild(rules={"tokens": {"formula": "count"}}).number
            metering.promote(candidate, reason="a test")
            assert metering.verify().is_equal
            assert figures(metering) == (BATCH, BATCH * VALUE)
            assert connection.execute(OURS).fetchone() != (0,)
        until(lambda: connection.execute(OURS).fetchone() == (0,))
