"""The contract of generations: built beside the live one, equal to it under its rules, and made live whole."""

import random
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

import pytest
from tallybook.application import Metering, Progress, TallybookError
from tallybook.application.generations import Generations
from tallybook.application.ledger import Ledger
from tallybook.application.stores.store import GenerationViews
from tallybook.domain.errors import RulesCannotRead
from tallybook.projections.generations import Generation
from tallybook.projections.projector import Projector

from .histories import END, METERS, START, Contents, answers, record_history, report, rows_of
from .kept_stores import KeptStore
from .stores import NOW, Store

EVER = NOW.replace(year=2000), NOW.replace(year=2100)


def freshly_folded(ledger: Ledger, views: GenerationViews) -> tuple[int, Contents]:
    """What one fold of the whole ledger in one page makes, under the rules in force."""
    with views.scratch(ledger.changed_rules()) as scratch:
        Projector(ledger, scratch).catch_up()
        return rows_of(scratch)


@contextmanager
def generations_of(store: Store) -> Generator[tuple[Generations, Ledger, GenerationViews]]:
    """What works on the generations of a store."""
    with store.pieces() as (ledger, views):
        yield Generations(ledger, views, lambda: NOW), ledger, views


def arriving(metering: Metering, first: int, every: int = 1) -> Callable[[Progress], None]:
    """Record a few more uses, and cancel one, after pages that are folded."""
    rng, pages = random.Random(first), iter(range(first, first + 10_000))

    def more(_: Progress) -> None:
        number = next(pages)
        if number % every == 0 and number < first + 20 * every:
            one = report(number, rng)
            metering.record_many([one])
            if number % 3 == 0:
                metering.cancel(str(one["event_name"]), str(one["identifier"]))

    return more


class Interrupted(BaseException):
    """Somebody ends the program, as KeyboardInterrupt does."""


@pytest.mark.parametrize("page_size", [1, 2, 4, 10_000])
@pytest.mark.parametrize("restarted", [False, True], ids=["in one go", "with a restart"])
def test_a_rebuild_under_unchanged_rules_has_the_rows_of_the_live_generation(
    store: Store, page_size: int, restarted: bool
) -> None:
    """However it is cut into pages, begun again in the middle, and with usage and cancels arriving all the while."""
    with store.metering() as metering:
        record_history(metering, 30)
        metering.change_rules("jobs", {"formula": "sum", "dimension_keys": []}, reason="why not")
        answers(metering)
        more = arriving(metering, 60)

        def halfway(progress: Progress) -> None:
            more(progress)
            if progress.position > progress.head // 2:
                raise Interrupted

        if restarted:
            with generations_of(store) as (generations, _, _), pytest.raises(Interrupted):
                generations.rebuild(None, halfway, page_size)
        with generations_of(store) as (generations, ledger, views):
            rebuilt = generations.rebuild(None, more, page_size)
            answers(metering)
            generations.bring_up(rebuilt)
            assert rows_of(views.of(rebuilt.number)) == rows_of(views) == freshly_folded(ledger, views)
            assert metering.verify().is_equal
            metering.promote(rebuilt.number)
            assert rows_of(views) == freshly_folded(ledger, views)
            assert metering.verify().is_equal


def test_a_rebuild_that_is_interrupted_goes_on_where_it_was(store: Store) -> None:
    """Interrupted after each of its pages: the live generation is as it was, and the same call goes on."""
    with store.metering() as metering:
        record_history(metering, 30)
        before = answers(metering)
        with generations_of(store) as (generations, ledger, views):
            live = rows_of(views)
            changes = {"seats": {"formula": "sum", "event_time_window": "day"}}
            expected = 0

            def interrupt(progress: Progress) -> None:
                assert progress.position == min(expected + 9, ledger.head())
                raise KeyboardInterrupt

            while expected < ledger.head():
                with pytest.raises(KeyboardInterrupt):
                    generations.rebuild(changes, interrupt, 9)
                expected = min(expected + 9, ledger.head())
                assert [(one.state, one.position) for one in generations.all()] == [
                    ("live", ledger.head()), ("building", expected),
                ]  # fmt: skip
                assert rows_of(views) == live
                assert answers(metering) == before
            told: list[Progress] = []
            done = generations.rebuild(changes, told.append, 9)
            assert (done.number, done.state, told) == (2, "ready", [])


def test_a_rebuild_that_was_interrupted_is_left_for_one_under_other_rules(store: Store) -> None:
    """It goes on only for the rules that it was begun with; what is left can be dropped."""
    with store.metering() as metering, generations_of(store) as (generations, _, _):
        record_history(metering, 30)

        def interrupt(_: Progress) -> None:
            raise Interrupted

        for changes in ({"seats": {"formula": "sum"}}, {"seats": {"formula": "count"}}, None):
            with pytest.raises(Interrupted):
                generations.rebuild(changes, interrupt, 5)
        assert [(one.number, one.state) for one in metering.generations()] == [
            (1, "live"), (2, "building"), (3, "building"), (4, "building"),
        ]  # fmt: skip
        assert metering.rebuild(rules={"seats": {"formula": "sum"}}).number == 2
        for number in (3, 4):
            with pytest.raises(TallybookError, match="isn't built to the end"):
                metering.promote(number, reason="too early")
            with pytest.raises(TallybookError, match="isn't built to the end"):
                metering.diff(number)
            metering.drop_generation(number)
        assert [(one.number, one.state) for one in metering.generations()] == [(1, "live"), (2, "ready")]


def test_the_live_generation_is_not_dropped_and_a_dropped_one_is_gone(store: Store) -> None:
    """A retired one can be; what is dropped is neither listed, compared, promoted nor dropped again."""
    with store.metering() as metering:
        record_history(metering, 20)
        metering.promote(metering.rebuild().number)
        assert [(one.number, one.state) for one in metering.generations()] == [(1, "retired"), (2, "live")]
        with pytest.raises(TallybookError, match="is live"):
            metering.drop_generation(2)
        metering.drop_generation(1)
        for gone in (metering.drop_generation, metering.promote, metering.diff):
            with pytest.raises(TallybookError) as refused:
                gone(1)
            assert refused.value.code == "no_generation"
        assert metering.verify().is_equal


def test_a_promoted_generation_is_folded_to_the_head(store: Store) -> None:
    """Also what was recorded since it was built, and the change of its rules; the way back as well."""
    with store.metering() as metering:
        record_history(metering, 20)
        before = metering.totals("tokens", START, END)
        candidate = metering.rebuild(rules={"tokens": {"formula": "count"}})
        assert candidate.rules == {"tokens": metering_rules(metering, "tokens", "count")}
        metering.record_many([{"event_name": "tokens", "payload": {"customer": "acme", "value": "1"}}])
        promoted = metering.promote(candidate.number, reason="by calls", by="ops")
        assert (promoted.state, promoted.position, promoted.rules) == ("live", promoted.head, {})
        with pytest.raises(TallybookError, match="give a reason"):
            metering.promote(1)
        back = metering.promote(1, reason="by tokens again")
        assert (back.state, back.position, metering.meter("tokens").revision) == ("live", back.head, 3)
        assert len(metering.totals("tokens", START, END)) == len(before)
        assert metering.verify().is_equal


def metering_rules(metering: Metering, event_name: str, formula: str) -> object:
    """A meter's rules with another formula."""
    present = metering._ledger.meter(event_name).rules  # pyright: ignore[reportPrivateUsage]
    return type(present).model_validate({**dict(present), "formula": formula})


def test_a_rename_during_a_promotion_is_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A meter that changes between being loaded and its rules being changed: both happen."""
    with store.metering() as metering, store.metering() as other:
        record_history(metering, 10)
        candidate = metering.rebuild(rules={"tokens": {"formula": "count"}}).number
        meanwhile(metering, monkeypatch, lambda: other.rename_meter("tokens", "Tokens sold"))
        metering.promote(candidate, reason="by calls")
        shown = metering.meter("tokens")
        assert (shown.display_name, shown.formula, shown.revision) == ("Tokens sold", "count", 2)


def meanwhile(metering: Metering, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Let something happen once, just before a promotion holds the ledger to change rules."""
    ledger = metering._ledger  # pyright: ignore[reportPrivateUsage]
    alone, once = ledger.alone, iter([happens])

    def after_it() -> object:
        for each in once:
            each()
        return alone()

    monkeypatch.setattr(ledger, "alone", after_it)


RICHER = {"customer": "acme", "value": "1", "tokens": "7", "region": "eu"}
BY_REGION = {"jobs": {"dimension_keys": ["region", "plan"]}, "tokens": {"value_key": "tokens"}}


def poor(number: int, payload: dict[str, str], event_name: str = "tokens") -> dict[str, object]:
    """A report whose payload some rules can't read."""
    return {"event_name": event_name, "identifier": f"poor-{number}", "payload": payload, "timestamp": START}


def test_payloads_that_the_new_rules_cannot_read_stop_the_rebuild_and_are_listed(store: Store) -> None:
    """All of them, of every meter whose rules change, with identifier and code; nothing is changed, none is left."""
    with store.metering() as metering:
        record_history(metering, 0)
        metering.record_many(
            [
                poor(0, RICHER),
                poor(1, RICHER | {"tokens": "many"}),
                poor(2, {"customer": "acme", "value": "1"}),
                poor(3, {"customer": "acme", "value": "1"}, "seats"),
                poor(4, RICHER, "jobs"),
                poor(5, RICHER | {"plan": "free"}, "jobs"),
            ]
        )
        metering.cancel("tokens", "poor-1")
        before = answers(metering), metering.generations(), metering.meters()
        for ask in (lambda: metering.rebuild(rules=BY_REGION), lambda: metering.rebuild(rules=BY_REGION)):
            with pytest.raises(RulesCannotRead) as refused:
                ask()
            assert [(one.identifier, one.event_name, one.code) for one in refused.value.uses] == [
                ("poor-1", "tokens", "payload_invalid_value"),
                ("poor-2", "tokens", "payload_no_value_defined"),
                ("poor-4", "jobs", "missing_dimension_payload_keys"),
            ]
            assert refused.value.count == 3
            assert (answers(metering), metering.generations(), metering.meters()) == before
        with pytest.raises(RulesCannotRead, match="can't read 2"):
            metering.change_rules("tokens", BY_REGION["tokens"], reason="by tokens")
        assert (answers(metering), metering.generations(), metering.meters()) == before


def test_of_many_unreadable_uses_the_first_thousand_are_listed_and_all_are_counted(store: Store) -> None:
    """The count is exact."""
    with store.metering() as metering:
        record_history(metering, 0)
        metering.record_many([poor(number, {"customer": "acme", "value": "1"}) for number in range(1_203)])
        with pytest.raises(RulesCannotRead) as refused:
            metering.rebuild(rules=BY_REGION)
        assert (len(refused.value.uses), refused.value.count) == (1_000, 1_203)


@pytest.mark.parametrize("ask", ["promote", "diff"])
def test_an_unreadable_use_that_comes_after_the_rebuild_is_listed_too(store: Store, ask: str) -> None:
    """Promoting, or comparing, what can't be brought up to date is refused as the rebuild would have been."""
    with store.metering() as metering:
        record_history(metering, 0)
        metering.record_many([poor(0, RICHER)])
        candidate = metering.rebuild(rules=BY_REGION).number
        metering.record_many([poor(1, {"customer": "acme", "value": "1"}), poor(2, RICHER)])
        before = answers(metering)
        with pytest.raises(RulesCannotRead) as refused:
            metering.promote(candidate, reason="by tokens") if ask == "promote" else metering.diff(candidate)
        assert [one.identifier for one in refused.value.uses] == ["poor-1"]
        assert [(one.number, one.state) for one in metering.generations()] == [(1, "live")]
        assert (metering.meter("tokens").revision, answers(metering)) == (1, before)


def test_an_unreadable_use_that_comes_while_the_rules_change_is_listed_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded after the candidate was brought up, just before the ledger is held: found there, and nothing changed."""
    with store.metering() as metering, store.metering() as other:
        record_history(metering, 0)
        candidate = metering.rebuild(rules=BY_REGION).number
        meanwhile(metering, monkeypatch, lambda: other.record_many([poor(1, {"customer": "acme", "value": "1"})]))
        with pytest.raises(RulesCannotRead, match="poor-1"):
            metering.promote(candidate, reason="by tokens")
        assert (metering.meter("tokens").revision, metering.meter("jobs").revision) == (1, 1)
        assert metering.total("tokens", "acme", START, END).sum == 1
        assert metering.verify().is_equal


def test_a_report_decided_under_the_old_rules_is_decided_anew_once_they_change(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules change between the decision on a batch and its storing: what the new rules can't read is refused, and
    what they can read is recorded under them."""
    with store.metering() as metering, store.metering() as other:
        record_history(metering, 0)
        candidate = other.rebuild(rules=BY_REGION).number
        ledger = metering._ledger  # pyright: ignore[reportPrivateUsage]
        append_uses = ledger.append_uses
        once = iter([lambda: other.promote(candidate, reason="by tokens")])

        def after_it(*decided: object) -> object:
            for each in once:
                each()
            return append_uses(*decided)  # pyright: ignore[reportArgumentType]

        monkeypatch.setattr(ledger, "append_uses", after_it)
        receipts = metering.record_many([poor(0, RICHER), poor(1, {"customer": "acme", "value": "1"})])
        assert [(one.outcome, one.error and one.error.code) for one in receipts] == [
            ("accepted", None), ("rejected", "payload_no_value_defined"),
        ]  # fmt: skip
        assert metering.total("tokens", "acme", START, END).sum == 7
        assert metering.verify().is_equal


class PowerCut(BaseException):
    """The program ends here."""


def bring_up_as_ever(bring_up: Callable[[Generation], int], generation: Generation) -> int:
    """Do what it does."""
    return bring_up(generation)


@pytest.fixture(params=["the rules", "the last catch-up"])
def cut_off(store: Store, request: pytest.FixtureRequest) -> Iterator[Store]:
    """A ledger whose rules were changed by a promotion that was cut off before the candidate was made live."""
    with store.metering() as keeping, store.metering() as metering:
        record_history(keeping, 60)
        candidate = metering.rebuild(rules={"tokens": {"formula": "last", "event_time_window": "day"}})
        working = metering._generations  # pyright: ignore[reportPrivateUsage]

        def cut(*_: object) -> int:
            raise PowerCut

        with pytest.MonkeyPatch.context() as patch:
            if request.param == "the rules":
                bring_up, calls = working.bring_up, iter([bring_up_as_ever, cut])

                def counted(generation: Generation) -> int:
                    return next(calls)(bring_up, generation)

                patch.setattr(working, "bring_up", counted)
            patch.setattr(working.views, "make_live", cut)
            with pytest.raises(PowerCut):
                metering.promote(candidate.number, reason="billed by day")
        yield store


def test_a_promotion_that_was_cut_off_is_brought_to_its_end_by_the_next_question(cut_off: Store) -> None:
    """Once the ledger says so, every answer is under the new rules, whichever program asks."""
    with cut_off.metering() as metering, cut_off.metering() as other:
        assert metering.meter("tokens").revision == 2
        explained = metering.explain("tokens", None, START, END)
        assert (explained.formula, explained.event_time_window, explained.revision) == ("last", "day", 2)
        assert [(one.number, one.state) for one in other.generations()] == [(1, "retired"), (2, "live")]
        assert answers(other) == answers(metering)
        assert metering.verify().is_equal
        before = explained.position - 1
        assert metering.explain("tokens", None, START, END, as_of=before).formula == "sum"
        other.promote(1, reason="back")
        assert metering.explain("tokens", None, START, END).formula == "sum"


@pytest.mark.parametrize("ask", ["total", "verify", "diff", "rebuild", "promote"])
def test_whatever_is_asked_first_after_a_cut_off_promotion_is_under_the_rules_in_force(
    cut_off: Store, ask: str
) -> None:
    """No call is misled by a live generation that is behind the ledger's rules."""
    with cut_off.metering() as metering:
        match ask:
            case "total":
                metering.total("tokens", "acme", START, END)
            case "verify":
                assert metering.verify().is_equal
            case "diff":
                assert metering.diff(2).differences == ()
            case "rebuild":
                metering.rebuild()
            case _:
                assert metering.promote(2).state == "live"
        assert metering.explain("tokens", None, START, END).revision == 2
        assert metering.verify().is_equal


def test_who_asks_while_a_promotion_is_between_rules_and_switch_waits_for_it(cut_off: Store) -> None:
    """Whoever is promoting is let do it; only one who was cut off is done the work of."""
    with cut_off.metering() as metering, cut_off.pieces() as (_, views):
        heard: list[int] = []
        asking = threading.Thread(target=lambda: heard.append(metering.explain("tokens", None, START, END).revision))
        with views.alone("promoting generation 2"):
            asking.start()
            asking.join(0.3)
            assert asking.is_alive()
            views.make_live(2, {})
        asking.join()
        assert heard == [2]


def test_read_models_made_anew_after_rules_changed_answer_the_same(kept_store: KeptStore) -> None:
    """A fresh fold is under the rules in force, and knows which were in force when."""
    with kept_store.metering() as metering:
        record_history(metering, 40)
        metering.change_rules("tokens", {"formula": "last", "event_time_window": "day"}, reason="billed by day")
        metering.change_rules("jobs", {"customer_key": "region", "dimension_keys": []}, reason="by region")
        metering.record_many([report(number, random.Random(number)) for number in range(60, 80)])
        metering.change_rules("tokens", {"formula": "count"}, reason="billed by days")
        head = metering.catch_up()
        before = answers(metering), [as_of_answers(metering, at) for at in range(0, head + 1, 11)]
    kept_store.forget()
    with kept_store.metering() as metering:
        assert (answers(metering), [as_of_answers(metering, at) for at in range(0, head + 1, 11)]) == before
        assert [one.state for one in metering.generations()] == ["live"]
        assert metering.verify().is_equal


def as_of_answers(metering: Metering, position: int) -> object:
    """What was answered at a position."""
    return [
        (metering.totals(name, START, END, as_of=position), metering.explain(name, None, START, END, as_of=position))
        for name in METERS
    ]


@pytest.mark.parametrize("page_size", [1, 2, 3, 5])
def test_pages_that_end_around_a_change_of_rules(store: Store, page_size: int) -> None:
    """A change of rules as the last or first event of a page, or between others, leaves no trace in the rows."""
    with store.metering() as metering:
        record_history(metering, 0)
        for number in range(6):
            metering.record_many([poor(number, RICHER)])
            metering.change_rules("tokens", {"formula": ("last", "count", "sum")[number % 3]}, reason="a test")
            if number % 2:
                metering.cancel("tokens", f"poor-{number}")
        metering.catch_up()
        with store.pieces() as (ledger, views):
            expected = rows_of(views)
            with views.scratch(ledger.changed_rules()) as scratch:
                Projector(ledger, scratch, page_size).catch_up()
                assert rows_of(scratch) == expected == freshly_folded(ledger, views)


def test_nobody_waits_for_ever_while_generations_are_worked_on(store: Store) -> None:
    """Threads record and ask all the while others rebuild, compare, promote, verify and drop; all come to an end."""
    with store.metering() as metering:
        metering.configure_meter("tokens", customer_key="customer")
        metering.configure_meter("seats", formula="last", customer_key="customer")
        over = threading.Event()
        recorded: list[int] = []
        failures: list[BaseException] = []

        def until_over(job: Callable[[], object]) -> Callable[[], None]:
            def run() -> None:
                try:
                    while not over.is_set():
                        job()
                except BaseException as failure:
                    failures.append(failure)

            return run

        def record() -> None:
            batch = [{"event_name": name, "payload": {"customer": "acme", "value": "3"}} for name in METERS[:2]]
            recorded.extend(receipt.position or 0 for receipt in metering.record_many(batch * 5))

        def ask() -> None:
            explained = metering.explain("tokens", None, *EVER)
            assert explained.total.value == len(explained.events) * (3 if explained.formula == "sum" else 1)
            metering.events("seats", limit=5)
            metering.generations()

        threads = [threading.Thread(target=until_over(job)) for job in (record, record, ask, ask)]
        for thread in threads:
            thread.start()
        try:
            for turn in range(3):
                candidate = metering.rebuild(rules={"tokens": {"formula": ("count", "sum")[turn % 2]}}).number
                metering.diff(candidate)
                metering.promote(candidate, reason="a test")
                assert metering.verify().is_equal
                (retired,) = (one.number for one in metering.generations() if one.state == "retired")
                metering.drop_generation(retired)
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert failures == []
        counted = [metering.total(name, None, *EVER).count for name in METERS[:2]]
        assert sum(counted) == len(recorded) == len(set(recorded)) > 0
        assert metering.verify().is_equal


def test_promoting_never_undoes_what_was_changed_since(store: Store) -> None:
    """A candidate, and a generation that retired, put back no rules of meters that were changed after them."""
    with store.metering() as metering:
        record_history(metering, 30)
        candidate = metering.rebuild(rules={"tokens": {"formula": "last"}}).number
        metering.change_rules("jobs", {"event_time_window": None}, reason="each job counts")
        for outdated in (candidate, 1):
            if outdated == 1:
                metering.change_rules("tokens", {"formula": "count"}, reason="billed by use")
            with pytest.raises(TallybookError) as refused:
                metering.promote(outdated, reason="a test")
            assert refused.value.code == "rules_moved_on"
        assert [(one.event_name, one.revision) for one in metering.meters()] == [
            ("jobs", 2),
            ("seats", 1),
            ("tokens", 2),
        ]
        assert metering.promote(3, reason="back to sums").state == "live"
        assert metering.meter("tokens").formula == "sum"
        assert metering.meter("jobs").event_time_window is None


def test_rules_changed_at_once_by_two_are_both_kept(store: Store) -> None:
    """Each names a part of the rules: the second changes what the first has made of them."""
    with store.metering() as metering:
        record_history(metering, 30)
        together = threading.Barrier(2)
        changes = ({"formula": "count"}, {"event_time_window": "day"})

        def change(rules: dict[str, object]) -> None:
            together.wait()
            metering.change_rules("tokens", rules, reason="a test")

        threads = [threading.Thread(target=change, args=(rules,)) for rules in changes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        meter = metering.meter("tokens")
        assert (meter.formula, meter.event_time_window, meter.revision) == ("count", "day", 3)
        assert metering.verify().is_equal


def test_a_candidate_of_another_ledger_is_done_away_with(kept_store: KeptStore) -> None:
    """With the ledger put back from a backup, no generation that was built from its later events is left."""
    backup = kept_store.elsewhere()
    with kept_store.metering() as metering:
        record_history(metering, 10)
    kept_store.copy_ledger(backup)
    with kept_store.metering() as metering:
        metering.record("tokens", {"customer": "ghost", "value": "1000"}, identifier="lost", timestamp=START)
        metering.rebuild(rules={"tokens": {"formula": "last"}})
    backup.copy_ledger(kept_store)
    with kept_store.metering() as metering:
        assert [one.state for one in metering.generations()] == ["live"]
        assert "ghost" not in {one.customer for one in metering.totals("tokens", START, END)}
