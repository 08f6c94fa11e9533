"""However a history is folded, the read models return the same results."""

import shutil
from collections.abc import Iterator, Sequence
from itertools import count, cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.application import Metering, Progress

from ..sampling import examples
from .histories import LIFTED, Step, meters_of, open_ledger, run_steps, steps
from .test_as_of import QueryResults, query_results
from .test_queries import ALL_TIME, RANGES


def all_results(metering: Metering, history: list[Step]) -> tuple[QueryResults, list[object]]:
    """Return all query results about a history, and all of its events."""
    listed: list[object] = [event for meter in meters_of(history) for event in metering.events(meter.name)]
    return query_results(metering, history, ALL_TIME, None), listed


def ignore_result(result: object) -> None:
    """Discard a result."""


class SimulatedKill(Exception):
    """The process is killed."""


def refold(
    url: str, read_models_file: Path, history: list[Step], page_sizes: Sequence[int], restart_every: int
) -> object:
    """Return the results of rebuilt read models: pages of these sizes in turn, with kills and restarts in between."""
    for file in read_models_file.parent.glob(read_models_file.name + "*"):
        file.unlink()
    sizes = cycle(page_sizes)
    while True:
        with Metering.open(url, policy=LIFTED) as metering:
            try:
                catch_up(metering, sizes, restart_every)
            except SimulatedKill:
                continue
            return all_results(metering, history)


def catch_up(metering: Metering, sizes: Iterator[int], max_pages: int) -> None:
    """Fold page by page, each of the next size; raise the kill if more than `max_pages` are needed."""
    projector = metering._projector  # pyright: ignore[reportPrivateUsage]
    pages = count(1)

    def after_page(progress: Progress) -> None:
        projector.page_size = next(sizes)
        if next(pages) >= max_pages and progress.position < progress.head:
            raise SimulatedKill

    projector.page_size = next(sizes)
    metering.catch_up(after_page)


@settings(max_examples=examples(20))
@given(steps(), st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 9))
def test_any_pages_and_restarts_give_the_incremental_result(
    history: list[Step], sizes: list[int], restart_every: int
) -> None:
    """Folding event by event, in pages of any sizes, and with restarts gives the same results."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "usage.db")
        url = f"sqlite:///{file}"
        with open_ledger(meters_of(history), url) as (metering, clock):
            run_steps(metering, clock, history, after=lambda _: ignore_result(metering.catch_up()))
            incremental = all_results(metering, history)
        assert refold(url, Path(f"{file}.read-models"), history, sizes, restart_every) == incremental


@pytest.mark.parametrize("page_size", [1, 2, 3, 7, 100_000])
def test_pages_of_one_size(tmp_path: Path, page_size: int) -> None:
    """Pages of 1, 2, 3 or 7 events, or one page with all events."""

    @settings(max_examples=examples(8))
    @given(steps())
    def fold(history: list[Step]) -> None:
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        url = f"sqlite:///{tmp_path}/usage.db"
        with open_ledger(meters_of(history), url) as (metering, clock):
            run_steps(metering, clock, history)
            at_once = all_results(metering, history)
        assert refold(url, tmp_path / "usage.db.read-models", history, [page_size], 100) == at_once

    fold()


@settings(max_examples=examples(12))
@given(steps(), steps(), RANGES)
def test_queries_in_between_change_nothing(history: list[Step], more: list[Step], between: object) -> None:
    """Queries after each event don't change the final results."""
    meters = meters_of(history + more)
    with open_ledger(meters) as (queried, clock), open_ledger(meters) as (not_queried, other):
        run_steps(queried, clock, history + more, after=lambda _: ignore_result(all_results(queried, history)))
        run_steps(not_queried, other, history + more)
        assert all_results(queried, history + more)[0] == all_results(not_queried, history + more)[0]
