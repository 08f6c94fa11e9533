"""Events: with the hashes of the rest of the tree they make up the root of the checkpoint (RFC 6962)."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from datetime import datetime, timedelta
from typing import IO, Any, Dict, Iterable, Iterator, List, Tuple

from .signatures import Wrong

EVENTS, HASHES = "events.txt", "hashes.txt"
MAX_LEVEL = 64
PERIOD = ("event_name", "customer", "start", "end")
BEFORE_ALL_TIMES, AFTER_ALL_TIMES = -(10**18), 10**18
Event = Tuple[int, str, str, Any]
RulesPart = Tuple[int, int, Any]


def sha256(data: bytes) -> bytes:
    """Return the SHA-256."""
    return hashlib.sha256(data).digest()


def append(subtrees: List[Tuple[int, bytes]], level: int, digest: bytes) -> None:
    """Append a subtree of 2**level leaves, and join subtrees that are the halves of a larger one."""
    while subtrees and subtrees[-1][0] == level:
        digest, level = sha256(b"\1" + subtrees.pop()[1] + digest), level + 1
    subtrees.append((level, digest))


def read_events(events: IO[bytes], hashes: IO[bytes], size: int, root: bytes) -> Iterator[Event]:
    """Yield (position, stream, topic, state) of each event; at the end, require that they lead to the root.

    A line of `hashes` is a level and the hash of a subtree without events of the pack, or the word `event`.
    """
    index = 0
    subtrees: List[Tuple[int, bytes]] = []
    while index < size:
        line = hashes.readline()
        if line != b"event\n":
            level_text, digest = line.decode().split()
            level = int(level_text)
            if not 0 <= level < MAX_LEVEL or index % (1 << level):
                raise Wrong("%s: a subtree is in the wrong place" % HASHES)
            append(subtrees, level, base64.b64decode(digest, validate=True))
            index += 1 << level
            continue
        heading, state = events.readline(), events.readline()
        append(subtrees, 0, sha256(b"\0" + heading + state[:-1]))
        index += 1
        position, stream, _, topic = json.loads(heading.decode())
        if position != index:
            raise Wrong("%s: position %s is in the place of %s" % (EVENTS, position, index))
        yield position, stream, topic, json.loads(state.decode(), object_pairs_hook=with_shared_keys)
    if index != size or hashes.read() or events.read():
        raise Wrong("%s: it does not end with the checkpoint" % EVENTS)
    node = subtrees[-1][1]
    for _, left in reversed(subtrees[:-1]):
        node = sha256(b"\1" + left + node)
    if node != root:
        raise Wrong("%s: the events and %s do not lead to the root of the checkpoint" % (EVENTS, HASHES))


def with_shared_keys(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    """Return a JSON object whose keys are shared with other objects: a pack may have many."""
    return {sys.intern(key): value for key, value in pairs}


def microseconds(text: str) -> int:
    """Return a time in UTC as the microseconds since 1970."""
    if not text.endswith("Z"):
        raise Wrong("%s is no time in UTC" % text)
    return (datetime.fromisoformat(text[:-1]) - datetime(1970, 1, 1)) // timedelta(microseconds=1)


class Ledger:
    """The events of a pack, by what they are about."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.meters: Dict[str, List[Tuple[int, Any]]] = {}
        self.usage: Dict[str, List[Tuple[int, int, str, Any]]] = {}
        self.changes: Dict[int, List[Tuple[int, str, Any]]] = {}
        self.closings: List[Tuple[int, str, Any]] = []
        for position, stream, topic, state in events:
            if topic in ("Configured", "RulesChanged"):
                self.meters.setdefault(state["event_name"], []).append((position, state))
            elif topic == "UsageRecorded":
                usage = (microseconds(state["occurred_at"]), position, stream[len("event/") :], state)
                self.usage.setdefault(state["event_name"], []).append(usage)
            elif topic in ("EventCancelled", "CancelRevoked"):
                self.changes.setdefault(state["recorded_position"], []).append((position, topic, state))
            elif topic in ("PeriodClosed", "AdjustmentSettled", "PeriodReopened"):
                self.closings.append((position, topic, state))
        for events_of_meter in self.usage.values():
            events_of_meter.sort(key=lambda event: event[:2])

    def rules_over_time(self, meter: str, position: int, revision: int) -> List[RulesPart]:
        """Return the rules (start, revision, rules) of a meter as of a position and up to a revision."""
        parts: List[RulesPart] = []
        for at, state in self.meters[meter]:
            number, effective_from = state.get("revision", 1), state.get("effective_from")
            if at <= position and number <= revision:
                start = BEFORE_ALL_TIMES if effective_from is None else microseconds(effective_from)
                parts = [part for part in parts if part[0] < start] + [(start, number, state["rules"])]
        return parts

    def closing(self, position: int) -> Tuple[Any, List[Tuple[int, Any]]]:
        """Return the state of the closing at a position, and (position, state) of its settlements, in order."""
        closing: Any = None
        settlements: List[Tuple[int, Any]] = []
        for at, topic, state in self.closings:
            if (at, topic) == (position, "PeriodClosed"):
                closing = state
            elif closing is not None and all(state[name] == closing[name] for name in PERIOD):
                if topic == "PeriodReopened":
                    break
                settlements.append((at, state))
        if closing is None:
            raise Wrong("%s: there is no PeriodClosed at position %s" % (EVENTS, position))
        return closing, settlements
