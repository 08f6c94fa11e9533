"""Usage segments: the usage of a meter in one segment of an archive, as numbers that engines read fast.

usage/KEY/FIRST-LAST-HASH.parquet

They follow from the events and are no part of the manifest: they can be deleted, and `archive materialize` makes them
again. KEY is a hash of how the rules read events, and HASH the start of the SHA-256 of the segment, so that no other
usage has this name.
"""

import hashlib

import msgspec

from ...domain.rules import Rules
from .manifest import ArchiveSegment

FOLDER = "usage"
VERSION = 1
"""The version of the columns, which the key depends on."""


def usage_key(recorded_name: str, rules: Rules) -> str:
    """Return the key of all usage with this event name that rules read in the same way."""
    reading = {
        "version": VERSION,
        "event_name": recorded_name,
        "customer_key": rules.customer_key,
        "value_key": rules.value_key,
        "value_type": rules.formula.rule.value_type.name,
        "dimension_keys": rules.dimension_keys,
        "optional_dimension_keys": rules.optional_dimension_keys,
        "filter": rules.model_dump(mode="json", include={"filter"}),
    }
    return hashlib.sha256(msgspec.json.encode(reading)).hexdigest()[:32]


def usage_folder(key: str) -> str:
    """Return the name of the folder of the segments with a key."""
    return f"{FOLDER}/{key}"


def usage_segment_name(key: str, segment: ArchiveSegment) -> str:
    """Return the name of the usage segment of a segment."""
    return f"{usage_folder(key)}/{segment.first:012d}-{segment.last:012d}-{segment.sha256[:16]}.parquet"
