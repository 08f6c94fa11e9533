"""A server that forks its workers: each opens the ledger for itself, and nobody harms what another has open."""

from .conftest import Start
from .ledgers import finished, positions, read_and_fresh_figures
from .usage import BATCH, VALUE


def test_forked_workers_record_beside_their_parent(start: Start, url: str) -> None:
    """All that parent and children have recorded is there, and the parent's own goes on working."""
    statuses, (count, total) = finished(start("fork", url, 4, 5))
    assert statuses == [0] * 4
    assert (count, total) == (23 * BATCH, 23 * BATCH * VALUE)
    assert positions(url) == list(range(1, count + 2))
    assert read_and_fresh_figures(url) == ((count, total),) * 2
