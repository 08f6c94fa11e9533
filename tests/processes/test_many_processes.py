"""Eight writers, a projector and readers at once, each a process of its own: nobody misses an event or sees one twice.

200,000 reports; TALLYBOOK_TEST_MANY_REPORTS sets another number.
"""

import os

from .conftest import Start
from .ledgers import positions, projected_and_replayed_totals, read_numbers
from .test_readers_and_writers import is_monotonic
from .usage import VALUE, open_ledger

EVENT_COUNT = int(os.environ.get("TALLYBOOK_TEST_MANY_REPORTS", "200000"))
WRITERS = 8
SIZE = 500
TIMEOUT_SECONDS = 600


def test_readers_of_eight_writers_miss_nothing_and_see_nothing_twice(start: Start, url: str) -> None:
    """Who reads by position sees each event once, in order; totals only grow; in the end all is exact."""
    batches = EVENT_COUNT // (WRITERS * SIZE)
    event_count = batches * WRITERS * SIZE
    open_ledger(url).close()
    projecting = start("project", url)
    tailing = [start("tail", url, event_count + 1) for _ in range(2)]
    reading = [start("read", url, event_count) for _ in range(2)]
    writing = [start("record", url, f"w{writer}", batches, SIZE) for writer in range(WRITERS)]
    for process in writing:
        assert read_numbers(process, TIMEOUT_SECONDS) == [[number] for number in range(batches)]
    for process in tailing:
        assert read_numbers(process, TIMEOUT_SECONDS) == [[event_count + 1, event_count + 1]]
    for process in reading:
        outputs = read_numbers(process, TIMEOUT_SECONDS)
        assert is_monotonic(outputs)
        assert outputs[-1] == [event_count, event_count * VALUE]
    projecting.communicate("stop\n", timeout=TIMEOUT_SECONDS)
    assert projecting.returncode == 0
    assert positions(url) == list(range(1, event_count + 2))
    assert projected_and_replayed_totals(url) == ((event_count, event_count * VALUE),) * 2
