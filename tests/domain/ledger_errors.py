"""Errors of whole ledgers: of their URLs and files, and of what was stored before the call."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from tallybook.application import AcceptancePolicy, Archive, Metering, verify_consistency, verify_inclusion

from ..notation import Clock, moment

NOW = moment("12:00")
DAY = moment("00:00"), moment("11T00:00")


def create_unfoldable_ledger(path: Path) -> None:
    """Create a ledger with an unknown event, as a newer version may write, and fold it."""
    url = f"sqlite:///{path}"
    Metering.open(url).close()
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO stored_events VALUES (1, 'meter/x', 1, 'Unheard', '{}')")
    connection.close()
    with Metering.open(url) as metering:
        metering.catch_up()


def create_newer_ledger(path: Path) -> None:
    """Open a ledger with a newer schema."""
    Metering.open(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    Metering.open(f"sqlite:///{path}")


def create_text_file(path: Path) -> None:
    """Open a text file as a ledger."""
    path.write_text("identifier,timestamp\n" * 100)
    Metering.open(f"sqlite:///{path}")


def create_checkpointed_ledger(path: Path) -> Path:
    """Create a ledger with a checkpoint of one event, which was cancelled later; return the checkpoint file."""
    checkpoints = path.with_suffix(".checkpoints")
    with Metering.open(f"sqlite:///{path}") as metering:
        metering.meters.configure("calls", formula="count", customer_key="customer")
        metering.record("calls", {"customer": "acme"}, identifier="req-1")
        metering.checkpoints.create(checkpoints)
        metering.cancel("calls", "req-1")
    return checkpoints


def call_with_checkpoints(path: Path, call: Callable[[Metering, Path], object]) -> None:
    """Run a call on a ledger with checkpoints."""
    checkpoints = create_checkpointed_ledger(path)
    with Metering.open(f"sqlite:///{path}") as metering:
        call(metering, checkpoints)


def create_rewritten_ledger(path: Path) -> None:
    """Change a ledger after a checkpoint, and create another checkpoint."""
    checkpoints = create_checkpointed_ledger(path)
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TRIGGER stored_events_are_never_deleted")
        connection.execute("DELETE FROM stored_events WHERE position = 2")
    connection.close()
    with Metering.open(f"sqlite:///{path}") as metering:
        metering.checkpoints.create(checkpoints)


def create_corrupted_ledger(path: Path) -> None:
    """Corrupt the event that configured a meter, and read the meter."""
    with Metering.open(f"sqlite:///{path}", clock=Clock(NOW)) as metering:
        metering.meters.configure("calls", customer_key="customer")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER stored_events_are_never_changed")
        connection.execute("UPDATE stored_events SET state = x'00'")
        connection.commit()
    with Metering.open(f"sqlite:///{path}") as metering:
        metering.meters.get("calls")


def create_outdated_candidate(path: Path) -> None:
    """Promote a candidate that was built before the rules of another meter changed."""
    with Metering.open(f"sqlite:///{path}", clock=Clock(NOW)) as metering:
        metering.meters.configure("calls", customer_key="customer")
        metering.meters.configure("jobs", formula="count", customer_key="customer")
        candidate = metering.generations.rebuild(rules={"calls": {"formula": "last"}}).number
        metering.rules.change("jobs", {"event_time_window": "day"}, reason="a test")
        metering.generations.promote(candidate, reason="a test")


def promote_changed_preview(path: Path) -> None:
    """Promote a candidate with the digest of a difference that has changed since."""
    with Metering.open(f"sqlite:///{path}", clock=Clock(NOW)) as metering:
        metering.meters.configure("calls", customer_key="customer")
        candidate = metering.generations.build_candidate("calls", {"formula": "count"}).number
        digest = metering.generations.diff(candidate).digest
        metering.record("calls", {"customer": "acme", "value": "7"})
        metering.generations.promote(candidate, reason="a test", digest=digest)


def query_across_rules(path: Path) -> None:
    """Query a total of a range in which the formula changes."""
    with Metering.open(f"sqlite:///{path}", clock=Clock(NOW)) as metering:
        metering.meters.configure("calls", customer_key="customer")
        metering.rules.change("calls", {"formula": "max"}, reason="a test", effective_from=NOW)
        metering.total("calls", "acme", *DAY)


def change_rules_within_an_hour(path: Path) -> None:
    """Let rules with a window of an hour begin within an hour."""
    with Metering.open(f"sqlite:///{path}", clock=Clock(NOW)) as metering:
        metering.meters.configure("calls", customer_key="customer")
        effective_from = NOW + timedelta(minutes=30)
        metering.rules.change("calls", {"event_time_window": "hour"}, reason="a test", effective_from=effective_from)


def record_many_combinations(path: Path) -> None:
    """Record one more combination of dimension values in an hour than a customer may have."""
    policy = AcceptancePolicy(max_customer_combinations=2)
    with Metering.open(f"sqlite:///{path}", policy=policy, clock=Clock(NOW)) as metering:
        metering.meters.configure("calls", customer_key="customer", dimension_keys=["model"])
        for model in ("small", "large", "small", "other"):
            metering.record("calls", {"customer": "acme", "value": "1", "model": model})


def export_to_file(path: Path) -> None:
    """Export a ledger to a folder in the place of which is a file."""
    path.write_text("")
    with Metering.open("sqlite://") as metering:
        metering.archive.export(path)


def export_to_changed_archive(path: Path) -> None:
    """Export a ledger again after the manifest of the archive was changed."""
    with Metering.open("sqlite://") as metering:
        metering.meters.configure("calls", customer_key="customer")
        metering.archive.export(path)
        (path / "manifest.jsonl").write_text("{}\n")
        metering.archive.export(path)


FILE_ERRORS: list[tuple[str, str | None, Callable[[Path], object]]] = [
    ("invalid_ledger_url", "url", lambda path: Metering.open(f"mysql:///{path}")),
    ("invalid_ledger_url", "url", lambda path: Metering.open(str(path))),
    ("invalid_ledger_url", "url", lambda path: Metering.open(f"sqlite:///{path.parent}")),
    ("ledger_unavailable", "url", lambda path: Metering.open(f"sqlite:///{path.parent}/missing/usage.db")),
    ("not_a_ledger", "url", create_text_file),
    ("unsupported_schema_version", "url", create_newer_ledger),
    ("projection_stopped", "position", create_unfoldable_ledger),
    ("ledger_corrupted", "position", create_corrupted_ledger),
    ("rules_conflict", "generation", create_outdated_candidate),
    ("preview_changed", "digest", promote_changed_preview),
    ("rules_change_in_range", "start", query_across_rules),
    ("invalid_effective_from", "effective_from", change_rules_within_an_hour),
    ("meter_event_dimension_count_too_high", "payload", record_many_combinations),
    (
        "invalid_checkpoint_file",
        "file",
        lambda path: call_with_checkpoints(path, lambda metering, _: metering.checkpoints.verify(path)),
    ),
    (
        "invalid_checkpoint_file",
        "file",
        lambda path: call_with_checkpoints(path, lambda metering, _: metering.checkpoints.create(path.parent)),
    ),
    ("checkpoint_mismatch", "position", create_rewritten_ledger),
    (
        "not_checkpointed",
        "identifier",
        lambda path: call_with_checkpoints(
            path, lambda metering, file: metering.checkpoints.prove_inclusion("req-1", file)
        ),
    ),
    (
        "not_checkpointed",
        "earlier",
        lambda path: call_with_checkpoints(
            path, lambda metering, file: metering.checkpoints.prove_consistency(file, 1)
        ),
    ),
    ("invalid_archive", "destination", Archive.open),
    ("archive_unavailable", "destination", export_to_file),
    ("archive_mismatch", "destination", export_to_changed_archive),
    ("invalid_proof", "proof", lambda path: verify_inclusion(b"", "", checkpoints=path)),
    ("invalid_proof", "proof", lambda path: verify_consistency("", checkpoints=path)),
    (
        "invalid_signing_key",
        "key",
        lambda path: call_with_checkpoints(path, lambda metering, file: metering.checkpoints.create(file, key=path)),
    ),
    (
        "invalid_signing_key",
        "key",
        lambda path: call_with_checkpoints(path, lambda metering, file: metering.checkpoints.verify(file, key="a")),
    ),
    (
        "parameter_invalid",
        "name",
        lambda path: call_with_checkpoints(path, lambda metering, file: metering.checkpoints.create(file, name="a b")),
    ),
]
