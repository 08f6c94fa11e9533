"""A pruning that is killed at any moment: no event is double, missing or unexplained, on both stores.

TALLYBOOK_TEST_KILL_MOMENTS sets the number of kills on each store, which is 3 by default, and 20 in a long run.
"""

import os
import random
import sys
from pathlib import Path
from subprocess import PIPE, Popen

from tallybook.application import Metering

from ..contract.histories import END, START, configure, random_event
from ..contract.persistent_stores import PersistentStore
from ..notation import Clock
from ..sampling import IS_LONG
from .pruning import LIFTED, History, answers, pruned_positions, query_all
from .pruning_process import ROWS_PER_TRANSACTION

KILL_COUNT = int(os.environ.get("TALLYBOOK_TEST_KILL_MOMENTS", "20" if IS_LONG else "3"))
TRANSACTIONS_PER_KILL = 4
MAX_SECONDS = 0.02
BOUNDS = START, END


def test_a_killed_pruning_is_continued(store: PersistentStore, tmp_path: Path) -> None:
    """After each kill everything is in the ledger or in the archive; the next run goes on, and one event says where."""
    rng, event_count = random.Random(0), KILL_COUNT * ROWS_PER_TRANSACTION * TRANSACTIONS_PER_KILL
    history = History(tmp_path)
    with Metering.open(store.url, policy=LIFTED, clock=Clock(END)) as metering:
        configure(metering)
        metering.record_many(random_event(number, rng) for number in range(event_count))
        head = history.archive_all(metering)
        identifiers = [f"use-{number:05d}" for number in range(0, event_count, event_count // 5)]
        results_before, before = query_all(metering), answers(metering, history, identifiers, BOUNDS, head)
        outcomes, pruned = set[str](), set[int]()
        arguments = ["-m", "tests.archive.pruning_process", store.url, str(tmp_path)]
        with Popen(
            [sys.executable, *arguments], stdin=PIPE, stdout=PIPE, text=True, cwd=Path(__file__).parents[2]
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for number in range(KILL_COUNT):
                # The first one is killed at once: on a fast machine, the others can finish in time.
                step, seconds = (rng.randrange(TRANSACTIONS_PER_KILL), rng.random() * MAX_SECONDS) if number else (0, 0)
                print(step, seconds, file=process.stdin, flush=True)
                outcomes.add(process.stdout.readline().strip())
                assert pruned <= (pruned := pruned_positions(store))
                assert len(metering.explain("tokens", "acme", *BOUNDS, as_of=head).events) > 0
            process.stdin.close()
        assert outcomes <= {"killed", "finished"}
        assert "killed" in outcomes
        history.prune(metering)
        assert len(pruned_positions(store)) == event_count
        assert query_all(metering) == results_before
        assert answers(metering, history, identifiers, BOUNDS, head) == before
        events = metering.history.list(after=head).entries
        assert [entry.event for entry in events] == ["HistoryPruned"]
