"""The commands on access keys."""

from pathlib import Path

import pytest
from tallybook.application import Metering

from .command_line import CommandLine


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def test_creating_a_key_begins_a_ledger_and_tells_the_key(tallybook: CommandLine) -> None:
    """In JSON on one level, with all that is known of it; and it opens the ledger."""
    made = tallybook.answer("key", "create", "--scope", "admin", "--name", "Zoë", "--test", "--by", "ops@acme")
    with Metering.open(tallybook.url) as metering:
        view = metering.authenticate(made["key"])
    assert made.pop("key").startswith(f"sk_test_{view.id}_")
    assert made.pop("created_at").endswith("Z")
    assert made == {
        "id": view.id,
        "hint": f"sk_test_{view.id}",
        "name": "Zoë",
        "scopes": ["admin"],
        "livemode": False,
        "created_by": "ops@acme",
    }


def test_a_key_records_and_reads_by_default(tallybook: CommandLine) -> None:
    """Live, and for what most programs do."""
    made = tallybook.answer("key", "create")
    assert (made["scopes"], made["livemode"], made["name"]) == (["record", "read"], True, "")
    assert tallybook.answer("key", "create", "--scope", "read", "--scope", "record")["scopes"] == ["record", "read"]


def test_people_see_the_key_on_a_line_of_its_own(tallybook: CommandLine) -> None:
    """To be copied, below it that it won't be shown again."""
    key, sentence, *lines = tallybook.lines("key", "create", "--name", "importer", "--by", "ops")
    with Metering.open(tallybook.url) as metering:
        assert metering.authenticate(key).name == "importer"
    assert "the only time that it is shown" in sentence
    assert [line.split()[0] for line in lines] == ["id", "name", "scopes", "mode", "created"]


def test_a_key_is_listed_and_revoked(tallybook: CommandLine) -> None:
    """Revoking again tells the first revocation."""
    made = tallybook.answer("key", "create", "--name", "importer")
    other = tallybook.answer("key", "create")
    assert [one["id"] for one in tallybook.answer("key", "list")] == [made["id"], other["id"]]
    revoked = tallybook.answer("key", "revoke", made["id"], "--reason", "left in a log", "--by", "ops")
    assert (revoked["revoked_by"], revoked["reason"]) == ("ops", "left in a log")
    assert tallybook.answer("key", "revoke", made["id"], "--reason", "another") == revoked
    assert tallybook.answer("key", "list")[0] == revoked
    (said,) = tallybook.lines("key", "revoke", made["id"])
    assert said.startswith(f"revoked: {made['hint']} opens nothing since ")
    assert said.endswith(" by ops: left in a log")
    tallybook.environment["COLUMNS"] = "200"
    _, _, first, second = tallybook.lines("key", "list")
    assert first.split()[:4] == [made["id"], "importer", "record,", "read"]
    assert "revoked" in first
    assert second.split()[-1] == "active"


def test_no_list_shows_what_is_secret(tallybook: CommandLine) -> None:
    """No secret, no salt and no hash, to people or to programs."""
    made = tallybook.answer("key", "create")
    fields = set(made) - {"key"} | {"revoked_at", "revoked_by", "reason"}
    assert set(tallybook.answer("key", "list")[0]) == fields
    secret = made["key"].removeprefix(made["hint"])
    listed = tallybook.run("key", "list").stdout + tallybook.run("key", "list", "--json").stdout
    assert made["id"] in listed
    assert secret not in listed


def test_no_keys_yet(tallybook: CommandLine) -> None:
    """A ledger without keys says so."""
    tallybook.run("meter", "configure", "tokens")
    assert tallybook.answer("key", "list") == []
    assert tallybook.lines("key", "list") == ["No access keys yet; 'tallybook key create' creates one."]


def test_refusals_of_keys(tallybook: CommandLine) -> None:
    """A slip in the ledger's name begins none, except where a key is created."""
    assert tallybook.refusal("key", "list") == ("ledger_unavailable", "url")
    assert tallybook.refusal("key", "revoke", "0" * 16) == ("ledger_unavailable", "url")
    assert tallybook.refusal("key", "create", "--scope", "write") == ("parameter_invalid", "scopes")
    assert tallybook.refusal("key", "revoke", "0" * 16) == ("no_access_key", "id")
    whole = tallybook.answer("key", "create")["key"]
    assert tallybook.refusal("key", "revoke", whole) == ("no_access_key", "id")
    assert whole not in tallybook.run("key", "revoke", whole, status=1).stderr
