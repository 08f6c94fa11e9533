"""The output of the `archive` commands."""

from typing import TYPE_CHECKING

from ..formatting import format_count, format_number
from .terminal import say

if TYPE_CHECKING:
    from ...archive.results import (
        ArchiveDifference,
        ArchiveExport,
        ArchiveVerification,
        IcebergRegistration,
        UsageMaterialization,
    )


def show_export(export: "ArchiveExport") -> None:
    """Print what an export added, and where the archive ends."""
    reached = f"{export.destination} ends at position {format_number(export.last_position)}"
    if not export.segments:
        say(f"nothing to export: {reached}")
        return
    segments, size = format_count(export.segments, "segment"), format_number(export.bytes)
    say(f"exported: {format_count(export.rows, 'event')} in {segments} of {size} bytes; {reached}")
    say(f"root {export.root}")


def show_registration(registration: "IcebergRegistration") -> None:
    """Print what was added to an Iceberg table."""
    added = format_count(registration.segments, "segment")
    position = format_number(registration.last_position)
    say(f"registered: {added} in the table {registration.table}, which ends at position {position}")


def show_materialization(materialization: "UsageMaterialization") -> None:
    """Print what was added, and how far the usage reaches."""
    position = format_number(materialization.last_position)
    reached = f"{materialization.destination} has the usage of {materialization.event_name} up to position {position}"
    if not materialization.added:
        say(f"nothing to materialize: {reached}")
        return
    size = format_number(materialization.added_bytes)
    say(f"materialized: {format_count(materialization.added, 'file')} of {size} bytes; {reached}")


def show_verification(verification: "ArchiveVerification") -> None:
    """Print what was compared, the warnings and all differences."""
    for warning in verification.warnings:
        say(f"note: {warning}")
    segments = format_count(verification.segments, "segment")
    say(f"{format_count(verification.rows, 'event')} in {segments} up to position {verification.last_position}")
    if verification.checkpoints:
        matching, count = format_number(verification.matching_checkpoints), format_number(verification.checkpoints)
        covered = format_count(verification.checkpointed_rows, "event")
        say(f"{matching} of {count} checkpoints match; those that end in the archive cover {covered}")
    if verification.is_compared_with_ledger:
        say("compared with the ledger")
    for difference in verification.differences:
        say(f"differs: {_format_difference(difference)}")
    if not verification.differences:
        say("all equal")


def _format_difference(difference: "ArchiveDifference") -> str:
    first, last = difference.first_position, difference.last_position
    if first is None or last is None:
        positions = ""
    elif first == last:
        positions = f", position {first}"
    else:
        positions = f", positions {first} to {last}"
    return f"{difference.file}{positions}: {difference.message}"
