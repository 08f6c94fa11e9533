"""How rows of the read models are written down, the same in every store. What can't be read is told as unavailable."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from ...domain.counting import Usage
from ...domain.rules import Rules
from ...projections.packing import unpack
from ...projections.rows import RulesInForce
from ...projections.runs import BucketKey, Run
from ...projections.totals import Totals
from .store import MADE_ANEW, UnreadableRow


@lru_cache(maxsize=10_000)
def decode_rules(stored: str) -> Rules:
    """Rules out of the column that keeps them."""
    with readable("rules"):
        return Rules.model_validate_json(stored)


@lru_cache(maxsize=10_000)
def decode_history(stored: str) -> tuple[RulesInForce, ...]:
    """The rules that were ever in force out of the column that keeps them."""
    with readable("rules"):
        history = tuple(
            RulesInForce(revision, Rules.model_validate(rules), position, recorded_at)
            for revision, rules, position, recorded_at in _history_decoder.decode(stored)
        )
        if not history:
            raise ValueError("no rules were ever in force")
        return history


def encode_history(history: Iterable[RulesInForce]) -> str:
    """The rules that were ever in force for the column that keeps them."""
    return _encode_json([(one.revision, one.rules.model_dump(mode="json"), *one[2:]) for one in history]).decode()


@lru_cache(maxsize=1_000)
def decode_pinned(stored: str) -> Mapping[str, Rules]:
    """Pinned rules out of the column that keeps them."""
    with readable("pinned rules"):
        return {name: Rules.model_validate(rules) for name, rules in msgspec.json.decode(stored).items()}


def encode_pinned(pinned: Mapping[str, Rules]) -> str:
    """Pinned rules for the column that keeps them."""
    return _encode_json({name: rules.model_dump(mode="json") for name, rules in pinned.items()}).decode()


def decode_revisions(stored: str) -> Mapping[str, int]:
    """Revisions of rules out of the column that keeps them."""
    with readable("revisions"):
        return _revisions_decoder.decode(stored)


def encode_revisions(revisions: Mapping[str, int]) -> str:
    """Revisions of rules for the column that keeps them."""
    return _encode_json(revisions).decode()


def decode_totals(row: Iterable[object]) -> Totals:
    """Totals out of the five columns that keep them."""
    total, count, last, last_at, last_position = row
    try:
        if type(count) is not int or type(last_at) not in _PLACES or type(last_position) not in _PLACES:
            raise ValueError(f"count {count!r}, last at {last_at!r}, position {last_position!r}")
        return Totals(Decimal(str(total)), count, None if last is None else Decimal(str(last)), last_at, last_position)  # type: ignore[arg-type]
    except _UNREADABLE as error:
        raise _unreadable("totals", error) from error


def encode_totals(totals: Totals) -> tuple[str, int, str | None, int | None, int | None]:
    """Totals for the five columns that keep them."""
    last = None if totals.last is None else str(totals.last)
    return str(totals.sum), totals.count, last, totals.last_at, totals.last_position


def decode_usages(key: BucketKey, stored: bytes) -> list[Usage]:
    """The usages of one row, in the bucket `key`."""
    try:  # said in full: every row of usages passes here
        return unpack(key, stored)
    except _UNREADABLE as error:
        raise _unreadable("usages", error) from error


def decode_run(row: Sequence[Any]) -> Run:
    """A run out of the columns that keep it: its bucket, first position, earliest, latest and totals."""
    customer, start, dimensions, first_position, earliest, latest, *totals = row
    return Run((customer, start, dimensions), first_position, earliest, latest, decode_totals(totals))


def encode_run(run: Run) -> tuple[Any, ...]:
    """A run for the columns that keep it."""
    return *run.key, run.first_position, run.earliest, run.latest, *encode_totals(run.totals)


@contextmanager
def readable(what: str) -> Generator[None]:
    """Raise UnreadableRow where a row can't be read."""
    try:
        yield
    except _UNREADABLE as error:
        raise _unreadable(what, error) from error


_encode_json = msgspec.json.Encoder(order="deterministic").encode
_revisions_decoder = msgspec.json.Decoder(dict[str, int])
_history_decoder = msgspec.json.Decoder(list[tuple[int, dict[str, object], int, int]])
_PLACES = (int, type(None))
_UNREADABLE = (msgspec.MsgspecError, ArithmeticError, AttributeError, TypeError, ValueError)


def _unreadable(what: str, error: Exception) -> UnreadableRow:
    return UnreadableRow(f"A row of {what} in the read models can't be read: {error}. {MADE_ANEW}")
