"""Eight writers, a projection and readers run in separate processes: no reader misses an event or reads one twice.

200,000 meter events; TALLYBOOK_TEST_MANY_REPORTS sets another number.
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


def test_readers_of_eight_writers_read_each_event_once(start: Start, url: str) -> None:
    """Readers by position read each event once, in order. Totals only grow, and the last ones are exact."""
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
