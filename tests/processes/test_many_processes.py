"""Eight writers, a projector and readers at once, each a process of its own: nobody misses an event or sees one twice.

200,000 reports; TALLYBOOK_MANY_REPORTS sets another number.
"""

import os

from .conftest import Start
from .ledgers import finished, positions, read_and_fresh_figures
from .test_readers_and_writers import monotone
from .usage import VALUE, opened

REPORTS = int(os.environ.get("TALLYBOOK_MANY_REPORTS", "200000"))
WRITERS = 8
SIZE = 500
PATIENCE_SECONDS = 600


def test_readers_of_eight_writers_miss_nothing_and_see_nothing_twice(start: Start, url: str) -> None:
    """Who reads by position sees each event once, in order; totals only grow; in the end all is exact."""
    batches = REPORTS // (WRITERS * SIZE)
    reports = batches * WRITERS * SIZE
    opened(url).close()
    projecting = start("project", url)
    tailing = [start("tail", url, reports + 1) for _ in range(2)]
    reading = [start("read", url, reports) for _ in range(2)]
    writing = [start("record", url, f"w{writer}", batches, SIZE) for writer in range(WRITERS)]
    for process in writing:
        assert finished(process, PATIENCE_SECONDS) == [[number] for number in range(batches)]
    for process in tailing:
        assert finished(process, PATIENCE_SECONDS) == [[reports + 1, reports + 1]]
    for process in reading:
        told = finished(process, PATIENCE_SECONDS)
        assert monotone(told)
        assert told[-1] == [reports, reports * VALUE]
    projecting.communicate("stop\n", timeout=PATIENCE_SECONDS)
    assert projecting.returncode == 0
    assert positions(url) == list(range(1, reports + 2))
    assert read_and_fresh_figures(url) == ((reports, reports * VALUE),) * 2
