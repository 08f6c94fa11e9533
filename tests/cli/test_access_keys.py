"""The commands for access keys."""

import re
from pathlib import Path

import pytest
from tallybook.application import Metering
from tallybook.application.system_user import system_user

from .command_line import CommandLine


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def test_creating_a_key_creates_a_ledger_and_prints_the_key(tallybook: CommandLine) -> None:
    """The JSON has all fields of the key on one level, and the key is authenticated by the ledger."""
    created = tallybook.run_json(
        "key", "create", "--scope", "admin", "--name", "Zoë", "--test", "--on-behalf-of", "ops@acme"
    )
    with Metering.open(tallybook.url) as metering:
        view = metering.access_keys.authenticate(created["key"])
    assert created.pop("key").startswith(f"sk_test_{view.id}_")
    assert created.pop("created_at").endswith("Z")
    assert created == {
        "id": view.id,
        "hint": f"sk_test_{view.id}",
        "name": "Zoë",
        "scopes": ["admin"],
        "livemode": False,
        "created_by": system_user(),
        "customers": [],
    }


def test_a_key_records_and_reads_by_default(tallybook: CommandLine) -> None:
    """By default a key is live and has the scopes that most programs need."""
    created = tallybook.run_json("key", "create")
    assert (created["scopes"], created["livemode"], created["name"]) == (["record", "cancel", "read"], True, "")
    assert tallybook.run_json("key", "create", "--scope", "read", "--scope", "record")["scopes"] == ["record", "read"]


def test_people_see_the_key_on_a_line_of_its_own(tallybook: CommandLine) -> None:
    """The key can be copied, and the next line says that it is shown only once."""
    key, sentence, *lines = tallybook.lines("key", "create", "--name", "importer", "--on-behalf-of", "ops")
    with Metering.open(tallybook.url) as metering:
        assert metering.access_keys.authenticate(key).name == "importer"
    assert "shown only once" in sentence
    assert [line.split()[0] for line in lines] == ["id", "name", "scopes", "mode", "created"]


def test_a_key_is_listed_and_revoked(tallybook: CommandLine) -> None:
    """Revoking again prints the first revocation."""
    created = tallybook.run_json("key", "create", "--name", "importer")
    other = tallybook.run_json("key", "create")
    assert [key["id"] for key in tallybook.run_json("key", "list")] == [created["id"], other["id"]]
    revoked = tallybook.run_json("key", "revoke", created["id"], "--reason", "left in a log", "--on-behalf-of", "ops")
    assert (revoked["revoked_by"], revoked["reason"]) == (system_user(), "left in a log")
    assert tallybook.run_json("key", "revoke", created["id"], "--reason", "another") == revoked
    assert tallybook.run_json("key", "list")[0] == revoked
    (line,) = tallybook.lines("key", "revoke", created["id"])
    assert line.startswith(f"revoked: {created['hint']} at ")
    assert line.endswith(f" by {system_user()}: left in a log")
    tallybook.environment["COLUMNS"] = "200"
    _, _, first, second = tallybook.lines("key", "list")
    assert first.split()[:5] == [created["id"], "importer", "record,", "cancel,", "read"]
    assert "revoked" in first
    assert second.split()[-1] == "active"


def test_no_list_shows_what_is_secret(tallybook: CommandLine) -> None:
    """Neither text nor JSON shows a secret, a salt or a hash."""
    created = tallybook.run_json("key", "create")
    fields = set(created) - {"key"} | {"revoked_at", "revoked_by", "reason"}
    assert set(tallybook.run_json("key", "list")[0]) == fields
    secret = created["key"].removeprefix(created["hint"])
    listed = tallybook.run("key", "list").stdout + tallybook.run("key", "list", "--json").stdout
    assert created["id"] in listed
    assert secret not in listed


def test_no_keys_yet(tallybook: CommandLine) -> None:
    """If a ledger has no keys, the list says so."""
    tallybook.run("meter", "configure", "tokens")
    assert tallybook.run_json("key", "list") == []
    assert tallybook.lines("key", "list") == ["No access keys yet. Create one with 'tallybook key create'."]


def test_access_key_errors(tallybook: CommandLine) -> None:
    """`key create` creates a missing ledger; `key list` and `key revoke` report an error."""
    assert tallybook.run_error("key", "list") == ("ledger_unavailable", "url")
    assert tallybook.run_error("key", "revoke", "0" * 16) == ("ledger_unavailable", "url")
    assert tallybook.run_error("key", "create", "--scope", "write") == ("parameter_invalid", "scopes")
    assert tallybook.run_error("key", "revoke", "0" * 16) == ("access_key_not_found", "id")
    secret_key = tallybook.run_json("key", "create")["key"]
    assert tallybook.run_error("key", "revoke", secret_key) == ("access_key_not_found", "id")
    assert secret_key not in tallybook.run("key", "revoke", secret_key, status=1).stderr


def test_a_key_limited_to_customers(tallybook: CommandLine) -> None:
    """It may read, and nothing else."""
    shown = tallybook.run("key", "create", "--customer", "acme", "--customer", "Zoë & Søn").stdout
    assert re.search(r"^ *customers +acme, Zoë & Søn$", shown, re.MULTILINE)
    (key,) = tallybook.run_json("key", "list")
    assert (key["scopes"], key["customers"]) == (["read"], ["acme", "Zoë & Søn"])
    assert "read of acme, Zoë & Søn" in tallybook.run("key", "list").stdout
    assert tallybook.run_error("key", "create", "--customer", "acme", "--scope", "admin") == (
        "parameter_invalid",
        "customers",
    )
