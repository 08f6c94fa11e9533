"""The author of what the recording role of docs/guides/postgresql.md appends is the user of the database, or none."""

from contextlib import closing
from typing import Any

import pytest
from psycopg import errors
from tallybook.application import TallybookError

from tests.docs.roles import connect_as, open_as, record
from tests.docs.test_role_attacks import EVENTS, insert, state

FORGED_AUTHORS: dict[str, dict[str, Any]] = {
    "a user of the operating system": {"by": "root", "via": "command_line"},
    "an access key": {"by": "rk_live_6f1c0a9be2d4783f", "via": "req_GkW4zN0tq1mPpA"},
    "a request": {"by": "api", "via": "req_GkW4zN0tq1mPpA"},
    "no name": {"by": ""},
    "a value that is no name": {"by": ["api"]},
}


def next_position() -> int:
    """Return the position of the next event."""
    with closing(connect_as("reports")) as connection:
        ((position,),) = connection.execute(f"SELECT max(position) + 1 FROM {EVENTS}".encode()).fetchall()
        return int(str(position))


@pytest.mark.parametrize("name", FORGED_AUTHORS)
def test_the_recorder_role_names_no_other_author(server: None, name: str) -> None:
    """Nor a request to a server, which would be found in no access log."""
    with pytest.raises(errors.InsufficientPrivilege):
        insert("api", "event/x", "UsageRecorded", state(**FORGED_AUTHORS[name]), next_position())


def test_the_recorder_role_states_whom_it_records_for(server: None) -> None:
    """That is no author. A program that names its user as the author can't record."""
    insert("api", "event/x", "UsageRecorded", state(by="api", on_behalf_of="alice"), next_position())
    with open_as("api") as metering:
        with metering.acting_as("api", on_behalf_of="alice"):
            record(metering, "request-2")
        with metering.acting_as("alice"), pytest.raises(TallybookError):
            record(metering, "request-3")
    with open_as("billing") as owner:
        (entry,) = owner.history.list(identifier="request-2").entries
        assert (entry.author.by, entry.author.on_behalf_of) == ("api", "alice")
