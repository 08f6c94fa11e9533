"""Random histories: every figure, explanation, proof and duplicate is the same after pruning up to a random position.

They are others on each day. TALLYBOOK_TEST_PRUNED_HISTORIES sets their number, by default 10, and 200 in a long run.
"""

import os
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st
from tallybook.application import Metering

from ..properties.rule_histories import ALL_TIME, HISTORIES, METERS, Step, open_ledger
from ..properties.test_rule_changes import all_results, run_history
from ..sampling import DAY, IS_LONG
from .pruning import History, answers

HISTORY_COUNT = int(os.environ.get("TALLYBOOK_TEST_PRUNED_HISTORIES", "200" if IS_LONG else "10"))


def everything(metering: Metering, history: History, identifiers: list[str], head: int) -> list[object]:
    """Return all results of each meter, also as of two positions, and all proofs, duplicates and entries."""
    meters = [meter.event_name for meter in metering.meters.list()]
    results = [all_results(metering, meter, None) for meter in meters]
    results += [all_results(metering, METERS[0], as_of) for as_of in (head // 2, head)]
    return [*results, *answers(metering, history, identifiers, ALL_TIME, head)]


@seed(DAY)
@settings(max_examples=HISTORY_COUNT, phases=[Phase.generate])
@given(HISTORIES, HISTORIES, st.booleans())
def test_everything_is_answered_as_before(
    archived: list[tuple[Step, int]], later: list[tuple[Step, int]], is_rebuilt: bool
) -> None:
    """What follows the archive stays, until it is archived too. Rebuilt read models give the same answers."""
    with TemporaryDirectory() as folder, open_ledger() as (metering, clock, reference):
        history = History(Path(folder))
        run_history(metering, clock, reference, archived)
        position = history.archive_all(metering)
        run_history(metering, clock, reference, later)
        identifiers = sorted({entry.identifier for entry, _ in reference.entries if not entry.cancels})
        head = metering.catch_up()
        for _ in range(2):
            clock.now += timedelta(days=1)
            before = everything(metering, history, identifiers, head)
            assert history.prune(metering).position == position
            stored = metering._ledger.raw_rows(1, head, head)  # pyright: ignore[reportPrivateUsage]
            assert {row[0] for row in stored if len(row[4]) == 32} == {
                row[0] for row in stored if row[3] == b"UsageRecorded" and row[0] <= position
            } - _ends_of_generations(metering)
            assert everything(metering, history, identifiers, head) == before
            if is_rebuilt:
                metering._read_models.reset()  # pyright: ignore[reportPrivateUsage]
                assert everything(metering, history, identifiers, head) == before
            position = history.archive_all(metering)


def _ends_of_generations(metering: Metering) -> set[int]:
    return {end for end, _ in metering._read_models.generation_heads()}  # pyright: ignore[reportPrivateUsage]
