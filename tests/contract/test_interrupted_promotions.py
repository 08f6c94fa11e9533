"""The contract of promotions that are interrupted, or run at the same time as other rule changes."""

import threading
from collections.abc import Callable, Iterator

import pytest
from tallybook.projections.models import Generation

from .histories import END, START, query_results, record_history
from .stores import Store


class SimulatedCrash(BaseException):
    """The process ends."""


def call_original(catch_up: Callable[[Generation], int], generation: Generation) -> int:
    """Call the original method."""
    return catch_up(generation)


@pytest.fixture(params=["rule change", "last catch-up"])
def interrupted_promotion(store: Store, request: pytest.FixtureRequest) -> Iterator[Store]:
    """Return a ledger in which a promotion changed the rules and crashed before it made the candidate live."""
    with store.metering() as keep_open, store.metering() as metering:
        record_history(keep_open, 60)
        candidate = metering.generations.rebuild(rules={"tokens": {"formula": "last", "event_time_window": "day"}})
        working = metering._generations  # pyright: ignore[reportPrivateUsage]

        def cut(*_: object) -> int:
            raise SimulatedCrash

        with pytest.MonkeyPatch.context() as patch:
            if request.param == "rule change":
                catch_up, calls = working.catch_up, iter([call_original, cut])

                def next_catch_up(generation: Generation) -> int:
                    return next(calls)(catch_up, generation)

                patch.setattr(working, "catch_up", next_catch_up)
            patch.setattr(working.views, "make_live", cut)
            with pytest.raises(SimulatedCrash):
                metering.generations.promote(candidate.number, reason="billed by day")
        yield store


def test_an_interrupted_promotion_is_completed_by_the_next_query(interrupted_promotion: Store) -> None:
    """After the rule change is stored, all results are under the new rules, in every process."""
    with interrupted_promotion.metering() as metering, interrupted_promotion.metering() as other:
        assert metering.meters.get("tokens").revision == 2
        explained = metering.explain("tokens", None, START, END)
        assert (explained.formula, explained.event_time_window, explained.revision) == ("last", "day", 2)
        assert [(generation.number, generation.state) for generation in other.generations.list()] == [
            (1, "retired"),
            (2, "live"),
        ]
        assert query_results(other) == query_results(metering)
        assert metering.verify().is_equal
        before = explained.position - 1
        assert metering.explain("tokens", None, START, END, as_of=before).formula == "sum"
        other.generations.promote(1, reason="back")
        assert metering.explain("tokens", None, START, END).formula == "sum"


@pytest.mark.parametrize("operation", ["total", "verify", "diff", "rebuild", "promote"])
def test_the_first_query_after_an_interrupted_promotion_uses_the_rules_in_force(
    interrupted_promotion: Store, operation: str
) -> None:
    """No operation uses a live generation whose rules are older than those of the ledger."""
    with interrupted_promotion.metering() as metering:
        match operation:
            case "total":
                metering.total("tokens", "acme", START, END)
            case "verify":
                assert metering.verify().is_equal
            case "diff":
                assert metering.generations.diff(2).differences == ()
            case "rebuild":
                metering.generations.rebuild()
            case _:
                assert metering.generations.promote(2).state == "live"
        assert metering.explain("tokens", None, START, END).revision == 2
        assert metering.verify().is_equal


def test_a_query_between_rule_change_and_switch_waits_for_the_promotion(interrupted_promotion: Store) -> None:
    """A query completes only interrupted promotions; while one is running, it waits for it."""
    with interrupted_promotion.metering() as metering, interrupted_promotion.components() as (_, views):
        revisions: list[int] = []
        query_thread = threading.Thread(
            target=lambda: revisions.append(metering.explain("tokens", None, START, END).revision)
        )
        with views.generation_lock("promoting generation 2"):
            query_thread.start()
            query_thread.join(0.3)
            assert query_thread.is_alive()
            views.make_live(2, {})
        query_thread.join()
        assert revisions == [2]
