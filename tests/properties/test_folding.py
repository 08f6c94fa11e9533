"""However a history is folded, the read models answer the same."""

import shutil
from collections.abc import Iterator, Sequence
from itertools import count, cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.application import Metering, Progress

from .histories import LIFTED, Step, opened, steps, tell
from .test_answers import RANGES, WHOLE, told
from .test_as_of import Answers, answers


def everything(metering: Metering, history: list[Step]) -> tuple[Answers, list[object]]:
    """All answers about a history, and all of its events."""
    listed: list[object] = [one for meter in told(history) for one in metering.events(meter.name)]
    return answers(metering, history, WHOLE, None), listed


def ignored(answer: object) -> None:
    """Ask, and go on."""


class Killed(Exception):
    """The process ends here."""


def folded_anew(url: str, views: Path, history: list[Step], page_sizes: Sequence[int], restart_every: int) -> object:
    """The answers of read models made anew, in pages of these sizes in turn, killed and opened again in between."""
    for file in views.parent.glob(views.name + "*"):
        file.unlink()
    sizes = cycle(page_sizes)
    while True:
        with Metering.open(url, policy=LIFTED) as metering:
            try:
                catch_up(metering, sizes, restart_every)
            except Killed:
                continue
            return everything(metering, history)


def catch_up(metering: Metering, sizes: Iterator[int], most_pages: int) -> None:
    """Fold page by page, each of the next size; be killed when more than `most_pages` are needed."""
    projector = metering._projector  # pyright: ignore[reportPrivateUsage]
    pages = count(1)

    def turn(progress: Progress) -> None:
        projector.page_size = next(sizes)
        if next(pages) >= most_pages and progress.position < progress.head:
            raise Killed

    projector.page_size = next(sizes)
    metering.catch_up(turn)


@settings(max_examples=20)
@given(steps(), st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 9))
def test_any_pages_and_restarts_give_what_growing_gave(
    history: list[Step], sizes: list[int], restart_every: int
) -> None:
    """Folded event by event as it grew, in pages of any sizes, and with restarts in the middle: the same answers."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "usage.db")
        url = f"sqlite:///{file}"
        with opened(url) as (metering, clock):
            tell(metering, clock, history, after=lambda _: ignored(metering.catch_up()))
            grown = everything(metering, history)
        assert folded_anew(url, Path(f"{file}.views"), history, sizes, restart_every) == grown


@pytest.mark.parametrize("page_size", [1, 2, 3, 7, 100_000])
def test_pages_of_one_size(tmp_path: Path, page_size: int) -> None:
    """Pages of 1, 2, 3, 7 events, or one of all."""

    @settings(max_examples=8)
    @given(steps())
    def fold(history: list[Step]) -> None:
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        url = f"sqlite:///{tmp_path}/usage.db"
        with opened(url) as (metering, clock):
            tell(metering, clock, history)
            at_once = everything(metering, history)
        assert folded_anew(url, tmp_path / "usage.db.views", history, [page_size], 100) == at_once

    fold()


@settings(max_examples=12)
@given(steps(), steps(), RANGES)
def test_asking_in_between_changes_nothing(history: list[Step], more: list[Step], between: object) -> None:
    """A ledger that was asked after each event answers at the end as one that was asked once."""
    with opened() as (asked, clock), opened() as (silent, other):
        tell(asked, clock, history + more, after=lambda _: ignored(everything(asked, history)))
        tell(silent, other, history + more)
        assert everything(asked, history + more)[0] == everything(silent, history + more)[0]
