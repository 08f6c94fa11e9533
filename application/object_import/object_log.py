"""Which objects were imported, and how far: entries of the key-value store, in the transactions of the rows.

The entry of a batch is added, never replaced, and its key has the number of rows that were read. So a second import of
the same object stores nothing: its entry exists already.
"""

from collections.abc import Callable, Sequence

import msgspec

from ...domain.timestamps import to_microseconds
from ..storage.key_value import KeyValueEntry, KeyValueStore
from .results import ObjectReport
from .stored_object import StoredObject

ROWS_KIND, REPORT_KIND, LATEST_KIND, RETRIED_KIND = "object_rows", "object_report", "object_latest", "object_retried"
_ROWS_DIGITS = 15
_PAGE_ENTRIES = 1_000


class ObjectLog:
    """The reports of the objects that were read, and how many rows of the others are recorded."""

    def __init__(self, key_values: KeyValueStore) -> None:
        self._key_values = key_values

    def reports(self) -> list[ObjectReport]:
        """Return all reports, in the order in which they were stored."""
        reports: list[ObjectReport] = []
        after: str | None = None
        while entries := self._key_values.scan(REPORT_KIND, after=after, limit=_PAGE_ENTRIES):
            reports += (_decode(entry.body) for entry in entries)
            after = entries[-1].key
        return sorted(reports, key=lambda report: (report.at, report.url))

    def find_reports(self, objects: Sequence[StoredObject]) -> dict[str, ObjectReport]:
        """Return the reports of the objects that were read, by identity."""
        entries = self._key_values.get(REPORT_KIND, [stored.identity for stored in objects])
        return {identity: _decode(entry.body) for identity, entry in entries.items()}

    def find_changed(self, objects: Sequence[StoredObject]) -> set[str]:
        """Return the identities of the objects of which another version was read before."""
        entries = self._key_values.get(LATEST_KIND, [stored.url_digest for stored in objects])
        return {
            stored.identity
            for stored in objects
            if stored.url_digest in entries and entries[stored.url_digest].body.decode() != stored.identity
        }

    def progress(self, stored: StoredObject) -> ObjectReport | None:
        """Return how much of an object is recorded, if its import was interrupted."""
        newest = self._key_values.scan(ROWS_KIND, after=f"{stored.identity}/~", limit=1, newest_first=True)
        return _decode(newest[0].body) if newest and newest[0].key.startswith(f"{stored.identity}/") else None

    def report_before_retry(self, stored: StoredObject) -> ObjectReport | None:
        """Return the report that an object had before the retry that is not finished yet."""
        entry = self._key_values.get(RETRIED_KIND, [stored.identity]).get(stored.identity)
        return None if entry is None else _decode(entry.body)

    @staticmethod
    def entry(stored: StoredObject, report: ObjectReport) -> KeyValueEntry:
        """Return the entry to add with a batch of rows. `report` counts them too."""
        key = f"{stored.identity}/{report.rows:0{_ROWS_DIGITS}d}"
        return KeyValueEntry(ROWS_KIND, key, to_microseconds(report.at), _encode(report))

    def finish(self, stored: StoredObject, report: ObjectReport) -> None:
        """Store the report of an object, in place of its progress."""
        at = to_microseconds(report.at)
        self._key_values.apply(
            delete=[*self._progress_keys(stored), (RETRIED_KIND, stored.identity)],
            upsert=[
                KeyValueEntry(REPORT_KIND, stored.identity, at, _encode(report)),
                KeyValueEntry(LATEST_KIND, stored.url_digest, at, stored.identity.encode()),
            ],
        )

    def start_retry(self, stored: StoredObject, report: ObjectReport) -> None:
        """Put the report of an object aside, so that it is read again from the start, also if the retry is killed."""
        self._key_values.apply(
            delete=[*self._progress_keys(stored), (REPORT_KIND, stored.identity)],
            upsert=[KeyValueEntry(RETRIED_KIND, stored.identity, to_microseconds(report.at), _encode(report))],
        )

    def _progress_keys(self, stored: StoredObject) -> list[tuple[str, str]]:
        keys: list[tuple[str, str]] = []
        after = f"{stored.identity}/"
        while entries := self._key_values.scan(ROWS_KIND, after=after, limit=_PAGE_ENTRIES):
            own = [(ROWS_KIND, entry.key) for entry in entries if entry.key.startswith(f"{stored.identity}/")]
            keys += own
            if len(own) < len(entries):
                break
            after = entries[-1].key
        return keys


_encode: Callable[[ObjectReport], bytes] = msgspec.json.Encoder().encode
_decode: Callable[[bytes], ObjectReport] = msgspec.json.Decoder(ObjectReport).decode
