"""The contract of generations: build them while another one is live, compare them, and promote them atomically."""

import random
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

import pytest
from tallybook.application import Metering, Progress, TallybookError
from tallybook.application.ledger.ledger import Ledger
from tallybook.application.read_models.generations import Generations
from tallybook.application.storage.ports import GenerationStore
from tallybook.domain.errors import IncompatibleRules
from tallybook.projections.models import Generation
from tallybook.projections.projector import Projector

from .histories import END, METERS, START, Contents, query_results, random_event, read_model_rows, record_history
from .persistent_stores import PersistentStore
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


def before_rules_change(metering: Metering, monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Run an action once, directly before a promotion locks the ledger to change rules."""
    ledger = metering._ledger  # pyright: ignore[reportPrivateUsage]
    exclusive, once = ledger.exclusive, iter([action])

    def run_then_call() -> object:
        for pending_action in once:
            pending_action()
        return exclusive()

    monkeypatch.setattr(ledger, "exclusive", run_then_call)


COMPLETE_PAYLOAD = {"customer": "acme", "value": "1", "tokens": "7", "region": "eu"}
BY_REGION = {"jobs": {"dimension_keys": ["region", "plan"]}, "tokens": {"value_key": "tokens"}}


def incomplete_event(number: int, payload: dict[str, str], event_name: str = "tokens") -> dict[str, object]:
    """Return a meter event whose payload is incompatible with some rules."""
    return {"event_name": event_name, "identifier": f"poor-{number}", "payload": payload, "timestamp": START}


def test_payloads_incompatible_with_the_new_rules_stop_the_rebuild_and_are_listed(store: Store) -> None:
    """The error lists the events of all changed meters with identifier and code; nothing is changed."""
    with store.metering() as metering:
        record_history(metering, 0)
        metering.record_many(
            [
                incomplete_event(0, COMPLETE_PAYLOAD),
                incomplete_event(1, COMPLETE_PAYLOAD | {"tokens": "many"}),
                incomplete_event(2, {"customer": "acme", "value": "1"}),
                incomplete_event(3, {"customer": "acme", "value": "1"}, "seats"),
                incomplete_event(4, COMPLETE_PAYLOAD, "jobs"),
                incomplete_event(5, COMPLETE_PAYLOAD | {"plan": "free"}, "jobs"),
            ]
        )
        metering.cancel("tokens", "poor-1")
        before = query_results(metering), metering.generations.list(), metering.meters.list()
        for build in (
            lambda: metering.generations.rebuild(rules=BY_REGION),
            lambda: metering.generations.rebuild(rules=BY_REGION),
        ):
            with pytest.raises(IncompatibleRules) as exc_info:
                build()
            assert [(entry.identifier, entry.event_name, entry.code) for entry in exc_info.value.events] == [
                ("poor-1", "tokens", "payload_invalid_value"),
                ("poor-2", "tokens", "payload_no_value_defined"),
                ("poor-4", "jobs", "missing_dimension_payload_keys"),
            ]
            assert exc_info.value.count == 3
            assert (query_results(metering), metering.generations.list(), metering.meters.list()) == before
        with pytest.raises(IncompatibleRules, match="can't read 2"):
            metering.rules.change("tokens", BY_REGION["tokens"], reason="by tokens")
        assert (query_results(metering), metering.generations.list(), metering.meters.list()) == before


def test_the_first_thousand_incompatible_events_are_listed_and_all_are_counted(store: Store) -> None:
    """The error has the exact count."""
    with store.metering() as metering:
        record_history(metering, 0)
        metering.record_many([incomplete_event(number, {"customer": "acme", "value": "1"}) for number in range(1_203)])
        with pytest.raises(IncompatibleRules) as exc_info:
            metering.generations.rebuild(rules=BY_REGION)
        assert (len(exc_info.value.events), exc_info.value.count) == (1_000, 1_203)


@pytest.mark.parametrize("operation", ["promote", "diff"])
def test_an_incompatible_event_recorded_after_the_rebuild_is_listed_too(store: Store, operation: str) -> None:
    """Promoting or comparing a candidate with an incompatible event raises the same error as a rebuild."""
    with store.metering() as metering:
        record_history(metering, 0)
        metering.record_many([incomplete_event(0, COMPLETE_PAYLOAD)])
        candidate = metering.generations.rebuild(rules=BY_REGION).number
        metering.record_many(
            [incomplete_event(1, {"customer": "acme", "value": "1"}), incomplete_event(2, COMPLETE_PAYLOAD)]
        )
        before = query_results(metering)
        with pytest.raises(IncompatibleRules) as exc_info:
            metering.generations.promote(
                candidate, reason="by tokens"
            ) if operation == "promote" else metering.generations.diff(candidate)
        assert [item.identifier for item in exc_info.value.events] == ["poor-1"]
        assert [(item.number, item.state) for item in metering.generations.list()] == [(1, "live")]
        assert (metering.meters.get("tokens").revision, query_results(metering)) == (1, before)


def test_an_incompatible_event_recorded_during_the_rule_change_is_listed_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event is recorded after the candidate caught up and before the ledger is locked. No rules are changed."""
    with store.metering() as metering, store.metering() as other:
        record_history(metering, 0)
        candidate = metering.generations.rebuild(rules=BY_REGION).number
        before_rules_change(
            metering, monkeypatch, lambda: other.record_many([incomplete_event(1, {"customer": "acme", "value": "1"})])
        )
        with pytest.raises(IncompatibleRules, match="poor-1"):
            metering.generations.promote(candidate, reason="by tokens")
        assert (metering.meters.get("tokens").revision, metering.meters.get("jobs").revision) == (1, 1)
        assert metering.total("tokens", "acme", START, END).sum == 1
        assert metering.verify().is_equal


def test_a_meter_event_validated_under_old_rules_is_validated_again_after_a_change(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If rules change between the validation and the storing of a batch, events incompatible with the new rules are
    rejected, and the others are recorded under the new rules."""
    with store.metering() as metering, store.metering() as other:
        record_history(metering, 0)
        candidate = other.generations.rebuild(rules=BY_REGION).number
        ledger = metering._ledger  # pyright: ignore[reportPrivateUsage]
        append_uses = ledger.append_meter_events
        once = iter([lambda: other.generations.promote(candidate, reason="by tokens")])

        def run_then_call(*decided: object) -> object:
            for pending_action in once:
                pending_action()
            return append_uses(*decided)  # pyright: ignore[reportArgumentType]

        monkeypatch.setattr(ledger, "append_meter_events", run_then_call)
        receipts = metering.record_many(
            [incomplete_event(0, COMPLETE_PAYLOAD), incomplete_event(1, {"customer": "acme", "value": "1"})]
        )
        assert [(receipt.outcome, receipt.error and receipt.error.code) for receipt in receipts] == [
            ("accepted", None), ("rejected", "payload_no_value_defined"),
        ]  # fmt: skip
        assert metering.total("tokens", "acme", START, END).sum == 7
        assert metering.verify().is_equal


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
