"""Eight clients misbehave for a minute, or two in a long run. `python -m tests.soak` lets them misbehave for thirty.

Here all of them start a round every twelve seconds, and in between the server recovers; there they start one every half
second. The load of a round is the same.
"""

import os

from ..sampling import IS_LONG
from .soak import percentile, run

SECONDS = float(os.environ.get("TALLYBOOK_TEST_SOAK_SECONDS", "120" if IS_LONG else "60"))
ROUND_SECONDS = 12
MAX_MEMORY_BYTES = 400_000_000
MAX_P99_SECONDS = 2.0
"""Eight times what is reached without other tests on the same cores."""


def test_well_behaved_clients_notice_little() -> None:
    """They are answered in time, the server's memory stays small, and no acknowledged event is missing."""
    measured = run(SECONDS, ROUND_SECONDS)
    assert measured.failures == []
    assert measured.missing == []
    assert len(measured.acknowledged) == len(measured.record_seconds) > SECONDS
    assert percentile(measured.record_seconds, 99) < MAX_P99_SECONDS, measured.summary()
    assert percentile(measured.read_seconds, 99) < MAX_P99_SECONDS, measured.summary()
    assert max(measured.memory_bytes) < MAX_MEMORY_BYTES, measured.summary()
