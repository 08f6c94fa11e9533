"""Conversion between column values and read-model values, common to both stores."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from ...domain.counting import UsageRecord
from ...domain.rules import Rules
from ...domain.rules_schedule import RulesPart
from ...domain.totals import Totals
from ...projections.blocks import BucketKey, UsageBlock, UsageRow, decode_block, decode_usage_rows
from ...projections.change_span import ChangeSpan
from ...projections.models import Bucket, FoldedRules, PinnedMeter, PinnedRules, ProjectedMeter, RulesRevision
from .ports import REBUILD_HINT, CorruptedReadModel
from .text_cache import cache_by_text

_MAX_CACHED_CHARACTERS = 16_000_000
"""The length of the texts whose meters, and whose pinned rules, are cached: about 40,000 revisions of rules."""
_MAX_CACHED_RULES = 10_000


@cache_by_text(_MAX_CACHED_CHARACTERS)
def decode_meter(event_name: str, folded: str, history: str, source: str | None) -> ProjectedMeter:
    """Decode a meter from its columns."""
    meter = ProjectedMeter(event_name, decode_folded(folded), decode_history(history), source)
    with translate_decode_errors("rules"):
        if not (meter.folded and meter.history) and (source is None or not (meter.folded or meter.history)):
            raise ValueError("a meter has no rules")
    return meter


def decode_folded(stored: str) -> tuple[FoldedRules, ...]:
    """Decode the rules that a meter is folded under from their column."""
    with translate_decode_errors("rules"):
        return tuple(
            FoldedRules(meter_id, start, _decode_rules(bytes(rules)))
            for meter_id, start, rules in _folded_decoder.decode(stored)
        )


def encode_folded(folded: Iterable[FoldedRules]) -> str:
    """Encode the rules that a meter is folded under for their column."""
    return _encode_json(
        [(meter_id, start, rules.model_dump(mode="json")) for meter_id, start, rules in folded]
    ).decode()


def decode_history(stored: str) -> tuple[RulesRevision, ...]:
    """Decode the history of a meter's rules from its column."""
    with translate_decode_errors("rules"):
        return tuple(
            RulesRevision(revision, _decode_rules(bytes(rules)), position, recorded_at, start)
            for revision, rules, position, recorded_at, start in _history_decoder.decode(stored)
        )


def encode_history(history: Iterable[RulesRevision]) -> str:
    """Encode the history of a meter's rules for its column."""
    return _encode_json(
        [
            (rules_revision.revision, rules_revision.rules.model_dump(mode="json"), *rules_revision[2:])
            for rules_revision in history
        ]
    ).decode()


@cache_by_text(_MAX_CACHED_CHARACTERS)
def decode_pinned(stored: str) -> PinnedRules:
    """Decode pinned rules from their column."""
    with translate_decode_errors("pinned rules"):
        return {
            name: PinnedMeter(tuple(RulesPart(start, _decode_rules(bytes(rules))) for start, rules in parts), source)
            for name, (parts, source) in _pinned_decoder.decode(stored).items()
        }


def encode_pinned(pinned: PinnedRules) -> str:
    """Encode pinned rules for their column."""
    return _encode_json(
        {
            name: ([(start, rules.model_dump(mode="json")) for start, rules in parts], source)
            for name, (parts, source) in pinned.items()
        }
    ).decode()


def decode_revisions(stored: str) -> Mapping[str, int]:
    """Decode revisions of rules from their column."""
    with translate_decode_errors("revisions"):
        return _revisions_decoder.decode(stored)


def encode_revisions(revisions: Mapping[str, int]) -> str:
    """Encode revisions of rules for their column."""
    return _encode_json(revisions).decode()


def decode_totals(
    total: Any, count: Any, last: Any, last_at: Any, last_position: Any, smallest: Any, largest: Any
) -> Totals:
    """Decode totals from their seven columns."""
    try:
        has_last = type(last_at) is type(last_position) is int
        if type(count) is not int or not (has_last or (count == 0 and last_at is last_position is None)):
            raise ValueError(f"count {count!r}, last at {last_at!r}, position {last_position!r}")
        return Totals(
            Decimal(total), count, None if last is None else Decimal(last), last_at, last_position,
            None if smallest is None else Decimal(smallest), None if largest is None else Decimal(largest),
        )  # fmt: skip
    except _DECODE_ERRORS as error:
        raise _corrupted("totals", error) from error


def encode_totals(totals: Totals) -> tuple[str, int, str | None, int | None, int | None, str | None, str | None]:
    """Encode totals for their seven columns."""
    total, last, smallest, largest = totals.sum, totals.last, totals.min, totals.max
    total_text = str(total)
    # Most usage with many dimension values has one event in a bucket, whose value is all of these.
    last_text = total_text if last is total else None if last is None else str(last)
    smallest_text = total_text if smallest is total else None if smallest is None else str(smallest)
    largest_text = smallest_text if largest is smallest else str(largest)
    return total_text, totals.count, last_text, totals.last_at, totals.last_position, smallest_text, largest_text


def decode_block_usage(key: BucketKey, stored: bytes) -> list[UsageRecord]:
    """Decode the usage records of one block in the bucket `key`."""
    try:  # inlined: this runs for every block
        return decode_block(key, stored)
    except _DECODE_ERRORS as error:
        raise _corrupted("usage", error) from error


def decode_block_rows(stored: bytes) -> Sequence[UsageRow]:
    """Decode the records of one block as they are encoded."""
    try:
        return decode_usage_rows(stored)
    except _DECODE_ERRORS as error:
        raise _corrupted("usage", error) from error


def decode_bucket(row: Sequence[Any]) -> Bucket:
    """Decode a bucket from its columns: customer, start, dimension values, totals and changes."""
    # A list of the columns of totals (`*totals`) would take half as long as decoding them.
    customer_id, start, dimensions, total, count, last, last_at, last_position, smallest, largest, first, latest = row
    totals = decode_totals(total, count, last, last_at, last_position, smallest, largest)
    return Bucket((customer_id, start, dimensions), totals, _decode_changes(first, latest))


def encode_bucket(bucket: Bucket) -> tuple[Any, ...]:
    """Encode a bucket for its columns, without its key."""
    changes = bucket.changes
    return *encode_totals(bucket.totals), changes.first_position, changes.last_position


def decode_block_columns(row: Sequence[Any], encoded: bytes | None = None) -> UsageBlock:
    """Decode a block from its columns: bucket, first position, earliest, latest, totals and changes."""
    (
        customer_id, start, dimensions, first_position, earliest, latest,
        total, count, last, last_at, last_position, smallest, largest, last_change,
    ) = row  # fmt: skip
    totals = decode_totals(total, count, last, last_at, last_position, smallest, largest)
    changes = _decode_changes(first_position, last_change)
    return UsageBlock((customer_id, start, dimensions), earliest, latest, totals, changes, encoded)


def encode_block_columns(block: UsageBlock) -> tuple[Any, ...]:
    """Encode a block for its columns."""
    changes = block.changes
    return (
        *block.key, changes.first_position, block.earliest, block.latest, *encode_totals(block.totals),
        changes.last_position,
    )  # fmt: skip


def _decode_changes(first: Any, last: Any) -> ChangeSpan:
    if not (type(first) is type(last) is int):
        raise _corrupted("usage or totals", ValueError(f"changes from {first!r} to {last!r}"))
    return ChangeSpan(first, last)


@lru_cache(maxsize=_MAX_CACHED_RULES)
def _decode_rules(stored: bytes) -> Rules:
    """Decode rules from their JSON. Each change stores all revisions of a meter again, which share their rules so."""
    return Rules.model_validate_json(stored)


@contextmanager
def translate_decode_errors(what: str) -> Generator[None]:
    """Raise CorruptedReadModel if a row cannot be decoded."""
    try:
        yield
    except _DECODE_ERRORS as error:
        raise _corrupted(what, error) from error


_encode_json = msgspec.json.Encoder(order="deterministic").encode
_revisions_decoder = msgspec.json.Decoder(dict[str, int])
_history_decoder = msgspec.json.Decoder(list[tuple[int, msgspec.Raw, int, int, int]])
_folded_decoder = msgspec.json.Decoder(list[tuple[int, int, msgspec.Raw]])
_pinned_decoder = msgspec.json.Decoder(dict[str, tuple[list[tuple[int, msgspec.Raw]], str | None]])
_DECODE_ERRORS = (msgspec.MsgspecError, ArithmeticError, AttributeError, TypeError, ValueError)


def _corrupted(what: str, error: Exception) -> CorruptedReadModel:
    return CorruptedReadModel(f"A row of {what} in the read models cannot be decoded: {error}. {REBUILD_HINT}")
