"""The contract of generations: build them while another one is live, compare them, and promote them atomically."""

import random
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

import pytest
from tallybook.application import Metering, Progress, TallybookError
from tallybook.application.ledger.ledger import Ledger
from tallybook.application.read_models.generations import Generations
from tallybook.application.storage.ports import GenerationStore
from tallybook.projections.projector import Projector

from .histories import END, METERS, START, Contents, query_results, random_event, read_model_rows, record_history
from .persistent_stores import PersistentStore
from .rule_changes import COMPLETE_PAYLOAD, before_rules_change, incomplete_event
from .stores import NOW, Store

ALL_TIME = NOW.replace(year=2000), NOW.replace(year=2100)
PAUSE_SECONDS = 0.005
"""Between two calls of a thread, so that the ledger of a store without latency stays small."""


def fold_all(ledger: Ledger, views: GenerationStore) -> tuple[int, Contents]:
    """Return the position and rows of a fold of the whole ledger in one page under the rules in force."""
    with views.temporary(ledger.changed_rules()) as scratch:
        Projector(ledger, scratch).catch_up()
        return read_model_rows(scratch)


@contextmanager
def open_generations(store: Store) -> Generator[tuple[Generations, Ledger, GenerationStore]]:
    """Open the generations of a store with its ledger and read models."""
    with store.components() as (ledger, views):
        yield Generations(ledger, views), ledger, views


def record_after_pages(metering: Metering, first: int, interval: int = 1) -> Callable[[Progress], None]:
    """Return a progress callback that records meter events, and sometimes cancels one, after a page is folded."""
    rng, pages = random.Random(first), iter(range(first, first + 10_000))

    def record_more(_: Progress) -> None:
        number = next(pages)
        if number % interval == 0 and number < first + 20 * interval:
            event = random_event(number, rng)
            metering.record_many([event])
            if number % 3 == 0:
                metering.cancel(str(event["event_name"]), str(event["identifier"]))

    return record_more


class Interrupted(BaseException):
    """Ends a rebuild, as KeyboardInterrupt does."""


@pytest.mark.parametrize("page_size", [1, 4, 10_000])
@pytest.mark.parametrize("restarted", [False, True], ids=["uninterrupted", "restarted"])
def test_a_rebuild_under_unchanged_rules_has_the_rows_of_the_live_generation(
    store: Store, page_size: int, restarted: bool
) -> None:
    """This holds for any page size, after a restart, and if usage and cancellations are recorded during the rebuild."""
    with store.metering() as metering:
        record_history(metering, 30)
        metering.rules.change("jobs", {"formula": "sum", "dimension_keys": []}, reason="why not")
        query_results(metering)
        more = record_after_pages(metering, 60)

        def halfway(progress: Progress) -> None:
            more(progress)
            if progress.position > progress.head // 2:
                raise Interrupted

        if restarted:
            with open_generations(store) as (generations, _, _), pytest.raises(Interrupted):
                generations.rebuild(None, halfway, page_size)
        with open_generations(store) as (generations, ledger, views):
            rebuilt = generations.rebuild(None, more, page_size)
            query_results(metering)
            generations.catch_up(rebuilt)
            assert (
                read_model_rows(views.read_models(rebuilt.number)) == read_model_rows(views) == fold_all(ledger, views)
            )
            assert metering.verify().is_equal
            metering.generations.promote(rebuilt.number)
            assert read_model_rows(views) == fold_all(ledger, views)
            assert metering.verify().is_equal


def test_an_interrupted_rebuild_resumes_at_its_position(store: Store) -> None:
    """If a rebuild is interrupted after each page, the live generation is unchanged, and the same call resumes it."""
    with store.metering() as metering:
        record_history(metering, 30)
        before = query_results(metering)
        with open_generations(store) as (generations, ledger, views):
            live = read_model_rows(views)
            changes = {"seats": {"formula": "sum", "event_time_window": "day"}}
            expected = 0

            def interrupt(progress: Progress) -> None:
                assert progress.position == min(expected + 9, ledger.head())
                raise KeyboardInterrupt

            while expected < ledger.head():
                with pytest.raises(KeyboardInterrupt):
                    generations.rebuild(changes, interrupt, 9)
                expected = min(expected + 9, ledger.head())
                assert [(generation.state, generation.position) for generation in generations.list()] == [
                    ("live", ledger.head()), ("building", expected),
                ]  # fmt: skip
                assert read_model_rows(views) == live
                assert query_results(metering) == before
            reported: list[Progress] = []
            candidate = generations.rebuild(changes, reported.append, 9)
            assert (candidate.number, candidate.state, reported) == (2, "ready", [])


def test_an_interrupted_rebuild_is_abandoned_for_one_under_other_rules(store: Store) -> None:
    """A rebuild resumes only under the rules it was started with; an unfinished generation can be dropped."""
    with store.metering() as metering, open_generations(store) as (generations, _, _):
        record_history(metering, 30)

        def interrupt(_: Progress) -> None:
            raise Interrupted

        for changes in ({"seats": {"formula": "sum"}}, {"seats": {"formula": "count"}}, None):
            with pytest.raises(Interrupted):
                generations.rebuild(changes, interrupt, 5)
        assert [(generation.number, generation.state) for generation in metering.generations.list()] == [
            (1, "live"), (2, "building"), (3, "building"), (4, "building"),
        ]  # fmt: skip
        assert metering.generations.rebuild(rules={"seats": {"formula": "sum"}}).number == 2
        for number in (3, 4):
            with pytest.raises(TallybookError, match="isn't built to the end"):
                metering.generations.promote(number, reason="too early")
            with pytest.raises(TallybookError, match="isn't built to the end"):
                metering.generations.diff(number)
            metering.generations.drop(number)
        assert [(generation.number, generation.state) for generation in metering.generations.list()] == [
            (1, "live"),
            (2, "ready"),
        ]


def test_the_live_generation_cannot_be_dropped_and_a_dropped_one_is_not_found(store: Store) -> None:
    """A retired generation can be dropped; after that it can't be listed, compared, promoted or dropped."""
    with store.metering() as metering:
        record_history(metering, 20)
        metering.generations.promote(metering.generations.rebuild().number)
        assert [(generation.number, generation.state) for generation in metering.generations.list()] == [
            (1, "retired"),
            (2, "live"),
        ]
        with pytest.raises(TallybookError, match="is live"):
            metering.generations.drop(2)
        metering.generations.drop(1)
        for operation in (
            metering.generations.drop,
            metering.generations.promote,
            metering.generations.diff,
        ):
            with pytest.raises(TallybookError) as exc_info:
                operation(1)
            assert exc_info.value.code == "generation_not_found"
        assert metering.verify().is_equal


def test_a_promoted_generation_is_folded_to_the_head(store: Store) -> None:
    """This includes events recorded after its rebuild and its rule change, also if the old generation is promoted."""
    with store.metering() as metering:
        record_history(metering, 20)
        before = metering.totals("tokens", START, END)
        candidate = metering.generations.rebuild(rules={"tokens": {"formula": "count"}})
        assert candidate.rules == {"tokens": metering_rules(metering, "tokens", "count")}
        metering.record_many([{"event_name": "tokens", "payload": {"customer": "acme", "value": "1"}}])
        promoted = metering.generations.promote(candidate.number, reason="by calls", by="ops")
        assert (promoted.state, promoted.position, promoted.rules) == ("live", promoted.head, {})
        with pytest.raises(TallybookError, match="give a reason"):
            metering.generations.promote(1)
        back = metering.generations.promote(1, reason="by tokens again")
        assert (back.state, back.position, metering.meters.get("tokens").revision) == ("live", back.head, 3)
        assert len(metering.totals("tokens", START, END)) == len(before)
        assert metering.verify().is_equal


def metering_rules(metering: Metering, event_name: str, formula: str) -> object:
    """Return the rules of a meter with another formula."""
    present = metering._ledger.meter(event_name).rules  # pyright: ignore[reportPrivateUsage]
    return type(present).model_validate({**dict(present), "formula": formula})


def test_a_rename_during_a_promotion_is_preserved(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a meter is renamed between its loading and its rule change, both changes are stored."""
    with store.metering() as metering, store.metering() as other:
        record_history(metering, 10)
        candidate = metering.generations.rebuild(rules={"tokens": {"formula": "count"}}).number
        before_rules_change(metering, monkeypatch, lambda: other.meters.rename("tokens", "Tokens sold"))
        metering.generations.promote(candidate, reason="by calls")
        meter = metering.meters.get("tokens")
        assert (meter.display_name, meter.formula, meter.revision) == ("Tokens sold", "count", 2)


def test_read_models_rebuilt_after_a_rule_change_give_the_same_results(persistent_store: PersistentStore) -> None:
    """A rebuild uses the rules in force, and stores which rules were in force at each position."""
    with persistent_store.metering() as metering:
        record_history(metering, 40)
        metering.rules.change("tokens", {"formula": "last", "event_time_window": "day"}, reason="billed by day")
        metering.rules.change("jobs", {"customer_key": "region", "dimension_keys": []}, reason="by region")
        metering.record_many([random_event(number, random.Random(number)) for number in range(60, 80)])
        metering.rules.change("tokens", {"formula": "count"}, reason="billed by days")
        head = metering.catch_up()
        before = query_results(metering), [results_as_of(metering, at) for at in range(0, head + 1, 11)]
    persistent_store.reset_read_models()
    with persistent_store.metering() as metering:
        assert (query_results(metering), [results_as_of(metering, at) for at in range(0, head + 1, 11)]) == before
        assert [generation.state for generation in metering.generations.list()] == ["live"]
        assert metering.verify().is_equal


def results_as_of(metering: Metering, position: int) -> object:
    """Return the results as of a position."""
    return [
        (metering.totals(name, START, END, as_of=position), metering.explain(name, None, START, END, as_of=position))
        for name in METERS
    ]


@pytest.mark.parametrize("page_size", [1, 2, 3, 5])
def test_pages_that_end_around_a_change_of_rules(store: Store, page_size: int) -> None:
    """The rows are the same whether a rule change is the first, the last or an inner event of a page."""
    with store.metering() as metering:
        record_history(metering, 0)
        for number in range(6):
            metering.record_many([incomplete_event(number, COMPLETE_PAYLOAD)])
            metering.rules.change("tokens", {"formula": ("last", "count", "sum")[number % 3]}, reason="a test")
            if number % 2:
                metering.cancel("tokens", f"poor-{number}")
        metering.catch_up()
        with store.components() as (ledger, views):
            expected = read_model_rows(views)
            with views.temporary(ledger.changed_rules()) as scratch:
                Projector(ledger, scratch, page_size).catch_up()
                assert read_model_rows(scratch) == expected == fold_all(ledger, views)


def test_concurrent_generation_operations_do_not_deadlock(store: Store) -> None:
    """Some threads record and query while others rebuild, compare, promote, verify and drop; all threads end."""
    with store.metering() as metering:
        metering.meters.configure("tokens", customer_key="customer")
        metering.meters.configure("seats", formula="last", customer_key="customer")
        over = threading.Event()
        recorded: list[int] = []
        failures: list[BaseException] = []

        def run_until_done(job: Callable[[], object]) -> Callable[[], None]:
            def run() -> None:
                try:
                    while not over.wait(PAUSE_SECONDS):
                        job()
                except BaseException as failure:
                    failures.append(failure)

            return run

        def record() -> None:
            batch = [{"event_name": name, "payload": {"customer": "acme", "value": "3"}} for name in METERS[:2]]
            recorded.extend(receipt.position or 0 for receipt in metering.record_many(batch * 5))

        def query() -> None:
            explained = metering.explain("tokens", None, *ALL_TIME)
            assert explained.total.value == len(explained.events) * (3 if explained.formula == "sum" else 1)
            metering.events("seats", limit=5)
            metering.generations.list()

        threads = [threading.Thread(target=run_until_done(job)) for job in (record, record, query, query)]
        for thread in threads:
            thread.start()
        try:
            for round_number in range(2):
                candidate = metering.generations.rebuild(
                    rules={"tokens": {"formula": ("count", "sum")[round_number % 2]}}
                ).number
                metering.generations.diff(candidate)
                metering.generations.promote(candidate, reason="a test")
                assert metering.verify().is_equal
                (retired,) = (
                    generation.number for generation in metering.generations.list() if generation.state == "retired"
                )
                metering.generations.drop(retired)
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert failures == []
        counts = [metering.total(name, None, *ALL_TIME).count for name in METERS[:2]]
        assert sum(counts) == len(recorded) == len(set(recorded)) > 0
        assert metering.verify().is_equal


def test_promoting_never_undoes_what_was_changed_since(store: Store) -> None:
    """Promoting a candidate or a retired generation doesn't revert later rule changes of other meters."""
    with store.metering() as metering:
        record_history(metering, 30)
        candidate = metering.generations.rebuild(rules={"tokens": {"formula": "last"}}).number
        metering.rules.change("jobs", {"event_time_window": None}, reason="each job counts")
        for outdated in (candidate, 1):
            if outdated == 1:
                metering.rules.change("tokens", {"formula": "count"}, reason="billed by use")
            with pytest.raises(TallybookError) as exc_info:
                metering.generations.promote(outdated, reason="a test")
            assert exc_info.value.code == "rules_conflict"
        assert [(meter.event_name, meter.revision) for meter in metering.meters.list()] == [
            ("jobs", 2),
            ("seats", 1),
            ("tokens", 2),
        ]
        assert metering.generations.promote(3, reason="back to sums").state == "live"
        assert metering.meters.get("tokens").formula == "sum"
        assert metering.meters.get("jobs").event_time_window is None


def test_rules_that_begin_later_are_in_force_again_once_promoted(store: Store) -> None:
    """The same change first applied from the end of the month of all usage on, then from its start on."""
    with store.metering() as metering:
        record_history(metering, 30)
        before = metering.total("tokens", None, START, END)
        for effective_from in (END, START):
            metering.rules.change("tokens", {"formula": "count"}, reason="a test", effective_from=effective_from)
        assert metering.total("tokens", None, START, END).value == before.count != before.value
        assert metering.generations.promote(2, reason="from next month on").state == "live"
        assert metering.total("tokens", None, START, END).value == before.value
        revisions = metering.meters.history("tokens")
        assert [(revision.rules.formula, revision.effective_from) for revision in revisions] == [
            ("sum", None), ("count", END), ("count", START), ("sum", None), ("count", END),
        ]  # fmt: skip
        assert metering.verify().is_equal


def test_concurrent_rule_changes_are_both_preserved(store: Store) -> None:
    """Each call changes a part of the rules, and the second call is applied to the result of the first."""
    with store.metering() as metering:
        record_history(metering, 30)
        together = threading.Barrier(2)
        changes = ({"formula": "count"}, {"event_time_window": "day"})

        def change(rules: dict[str, object]) -> None:
            together.wait()
            metering.rules.change("tokens", rules, reason="a test")

        threads = [threading.Thread(target=change, args=(rules,)) for rules in changes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        meter = metering.meters.get("tokens")
        assert (meter.formula, meter.event_time_window, meter.revision) == ("count", "day", 3)
        assert metering.verify().is_equal


def test_a_candidate_of_another_ledger_is_deleted(persistent_store: PersistentStore) -> None:
    """After the ledger is restored from a backup, generations that were built from its later events are deleted."""
    backup = persistent_store.new_location()
    with persistent_store.metering() as metering:
        record_history(metering, 10)
    persistent_store.copy_ledger(backup)
    with persistent_store.metering() as metering:
        metering.record("tokens", {"customer": "ghost", "value": "1000"}, identifier="lost", timestamp=START)
        metering.generations.rebuild(rules={"tokens": {"formula": "last"}})
    backup.copy_ledger(persistent_store)
    with persistent_store.metering() as metering:
        assert [one.state for one in metering.generations.list()] == ["live"]
        assert "ghost" not in {one.customer for one in metering.totals("tokens", START, END)}
