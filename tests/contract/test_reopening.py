"""Recorded events survive reopening the ledger, in any environment."""

import pytest
from tallybook.application import Metering

from .histories import query_results, record_history
from .persistent_stores import PersistentStore
from .stores import ANY_TIME, NOW, Store

FOREIGN_SETTINGS = {
    "PERSISTENCE_MODULE": "eventsourcing.postgres",
    "LEDGER_PERSISTENCE_MODULE": "eventsourcing.popo",
    "SQLITE_DBNAME": "/nowhere/else.db",
    "LEDGER_SQLITE_DBNAME": "/nowhere/else.db",
    "COMPRESSOR_TOPIC": "zlib",
    "CIPHER_TOPIC": "eventsourcing.cipher:AESCipher",
    "CIPHER_KEY": "b8EnqVLiJbRA5W2eZpJxTg==",
    "IS_SNAPSHOTTING_ENABLED": "y",
    "AGGREGATE_CACHE_MAXSIZE": "1",
    "DEEPCOPY_FROM_AGGREGATE_CACHE": "n",
    "ORIGINATOR_ID_TYPE": "uuid",
    "MAPPER_TOPIC": "eventsourcing.persistence:Mapper",
    "TRANSCODER_TOPIC": "eventsourcing.persistence:JSONTranscoder",
    "CREATE_TABLE": "n",
}
"""Environment variables of the library that a host application may set for its own aggregates."""


def test_events_and_results_survive_reopening(persistent_store: PersistentStore) -> None:
    """A reopened ledger has the same events and the same results."""
    with persistent_store.metering() as metering:
        record_history(metering)
        before = query_results(metering)
    with persistent_store.metering() as metering:
        assert query_results(metering) == before


def test_two_openings_see_each_others_events_immediately(store: Store) -> None:
    """Events recorded through one opening are in the next query result of the other."""
    with store.metering() as metering, store.metering() as other_metering:
        record_history(metering)
        assert query_results(other_metering) == query_results(metering)


def test_settings_of_a_host_application_change_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's environment variables have no effect: the same events are stored, byte for byte."""
    for name, value in FOREIGN_SETTINGS.items():
        monkeypatch.setenv(name, value)
    with store.metering() as metering:
        record_history(metering)
        under_settings = query_results(metering)
        ledger = store.ledger()
        stored = ledger.read_page(0, 10_000)
        ledger.close()
    for name in FOREIGN_SETTINGS:
        monkeypatch.delenv(name)
    with Metering.open("sqlite://", policy=ANY_TIME, clock=lambda: NOW) as plain:
        record_history(plain)
        assert query_results(plain) == under_settings
    assert all(state.startswith(b'{"recorded_at":"') for _, _, state in stored)
    assert {topic for _, topic, _ in stored} == {"Configured", "Renamed", "UsageRecorded", "EventCancelled"}
