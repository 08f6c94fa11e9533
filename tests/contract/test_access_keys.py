"""Access keys on every store: displayed once, authenticated, and rejected as soon as they are revoked."""

import logging
import secrets
from collections.abc import Callable

import pytest
from tallybook.application import AccessKeyView, Metering, NewAccessKey, Scope, TallybookError
from tallybook.application.access_keys.authentication import Authenticator, KeyCache
from tallybook.application.access_keys.key_format import ParsedKey, parse_key
from tallybook.application.commands.access_keys import AccessKeyCommands
from tallybook.application.ledger.ledger import Ledger

from .histories import record_history
from .persistent_stores import SQLiteFile
from .stores import NOW, Store


@pytest.fixture
def new(metering: Metering) -> NewAccessKey:
    """Create a key with the scopes `record` and `read`."""
    return metering.access_keys.create(["read", "record"], "importer", by="ops@acme")


def parse(new: NewAccessKey) -> ParsedKey:
    """Parse a new key."""
    key = parse_key(new.key)
    assert key is not None
    return key


def error_message(metering: Metering, key: str) -> str:
    """Return the message of the error for an invalid key."""
    with pytest.raises(TallybookError) as message:
        metering.access_keys.authenticate(key)
    assert (message.value.code, message.value.value) == ("invalid_access_key", None)
    return message.value.message


def test_a_key_is_created_and_recognised(metering: Metering, new: NewAccessKey) -> None:
    """Its view has everything but the secret; repeated authentication returns the same view."""
    assert new.view == AccessKeyView(
        parse(new).key_id, "importer", (Scope.RECORD, Scope.READ), True, NOW, "ops@acme", None, None, None
    )
    assert [metering.access_keys.authenticate(new.key) for _ in range(3)] == [new.view] * 3
    assert metering.access_keys.list() == [new.view]


def test_a_key_is_recognised_after_the_ledger_is_reopened(store: Store, metering: Metering, new: NewAccessKey) -> None:
    """The key is stored in the ledger, not only in the process that created it."""
    if store.location.is_persistent:
        with store.metering() as other:
            assert other.access_keys.authenticate(new.key) == new.view


@pytest.mark.parametrize(
    ("scopes", "livemode", "prefix"),
    [
        (["admin"], True, "sk_live_"),
        (["admin"], False, "sk_test_"),
        (["record", "admin"], True, "sk_live_"),
        (["record"], True, "rk_live_"),
        (["read", "record"], False, "rk_test_"),
    ],
)
def test_the_prefix_of_a_key_shows_its_scope_and_mode(
    metering: Metering, scopes: list[str], livemode: bool, prefix: str
) -> None:
    """The prefixes are Stripe's: secret or restricted, live or test. The hint is the prefix and the id."""
    new = metering.access_keys.create(scopes, livemode=livemode)
    view = metering.access_keys.authenticate(new.key)
    assert view.hint == prefix + view.id
    assert new.key.startswith(f"{view.hint}_")
    assert (view.livemode, view.name, view.created_by) == (livemode, "", None)
    assert {scope for scope in Scope if view.allows(scope)} == (set(Scope) if "admin" in scopes else set(scopes))


ALTERED_KEYS: dict[str, Callable[[ParsedKey], str]] = {
    "another secret": lambda key: f"{key.hint}_{secrets.token_urlsafe(32)}",
    "a secret with another first character": lambda key: (
        f"{key.hint}_{'A' if key.secret[0] != 'A' else 'B'}{key.secret[1:]}"
    ),
    "no secret": lambda key: f"{key.hint}_",
    "a truncated secret": lambda key: f"{key.hint}_{key.secret[:-1]}",
    "a longer secret": lambda key: f"{key.hint}_{key.secret}A",
    "the hint": lambda key: key.hint,
    "another id": lambda key: f"rk_live_{'0' * 16}_{key.secret}",
    "an id in capitals": lambda key: f"rk_live_{'A' * 16}_{key.secret}",
    "more scopes": lambda key: f"sk_live_{key.key_id}_{key.secret}",
    "another mode": lambda key: f"rk_test_{key.key_id}_{key.secret}",
    "another prefix": lambda key: f"pk_live_{key.key_id}_{key.secret}",
    "a trailing newline": lambda key: f"{key.hint}_{key.secret}\n",
    "a leading space": lambda key: f" {key.hint}_{key.secret}",
    "digits of another script": lambda key: f"rk_live_{'٣' * 16}_{key.secret}",
    "a lone surrogate": lambda key: f"{key.hint}_{key.secret[:-1]}\ud800",
    "a NUL": lambda key: f"{key.hint}_{key.secret[:-1]}\0",
    "a very long key": lambda key: f"{key.hint}_{key.secret * 10_000}",
    "nothing": lambda _: "",
}


@pytest.mark.parametrize("altered", ALTERED_KEYS.values(), ids=ALTERED_KEYS)
@pytest.mark.parametrize("is_known", [False, True], ids=["not cached", "cached"])
def test_an_altered_key_is_rejected(
    metering: Metering, new: NewAccessKey, altered: Callable[[ParsedKey], str], is_known: bool
) -> None:
    """All have the same error code, and the message shows at most the prefix and the last four characters."""
    if is_known:
        metering.access_keys.authenticate(new.key)
    key = altered(parse(new))
    message = error_message(metering, key)
    assert message.startswith("Invalid API Key provided: ")
    assert len(message) <= len("Invalid API Key provided: sk_live_****abcd.")
    assert parse(new).secret[:-4] not in message
    assert metering.access_keys.authenticate(new.key) == new.view


def test_an_invalid_key_error_shows_prefix_and_last_four(metering: Metering, new: NewAccessKey) -> None:
    """As in Stripe's errors, the owner can recognise the key. Text without a valid prefix is not shown."""
    metering.access_keys.revoke(new.view.id)
    assert error_message(metering, new.key) == f"Invalid API Key provided: rk_live_****{new.key[-4:]}."
    assert error_message(metering, "sk_live_swordfish") == "Invalid API Key provided: sk_live_****."
    assert error_message(metering, "correct horse battery staple") == "Invalid API Key provided: ****."


def test_a_secret_opens_its_own_key_only(metering: Metering, new: NewAccessKey) -> None:
    """The secret of one key with the id of another key is rejected."""
    other = metering.access_keys.create(["read", "record"])
    error_message(metering, f"{new.view.hint}_{parse(other).secret}")
    error_message(metering, f"{other.view.hint}_{parse(new).secret}")


def test_a_key_revoked_by_another_process_is_rejected_immediately(persistent_store: Store) -> None:
    """A key is rejected even if it is in the key cache and another process revokes it."""
    with persistent_store.metering() as first_metering, persistent_store.metering() as other_metering:
        new, stays = (
            first_metering.access_keys.create(["record"]),
            first_metering.access_keys.create(["record"]),
        )
        for key in (new, stays):
            assert (
                first_metering.access_keys.authenticate(key.key)
                == other_metering.access_keys.authenticate(key.key)
                == key.view
            )
        revoked = other_metering.access_keys.revoke(new.view.id, reason="left in a log", by="ops@acme")
        assert (revoked.revoked_at, revoked.reason, revoked.revoked_by) == (NOW, "left in a log", "ops@acme")
        for metering in (first_metering, other_metering):
            error_message(metering, new.key)
            assert metering.access_keys.authenticate(stays.key) == stays.view
        assert first_metering.access_keys.list() == [revoked, stays.view]


def test_revoking_again_returns_the_first_revocation(metering: Metering, new: NewAccessKey) -> None:
    """The second call writes nothing."""
    first = metering.access_keys.revoke(new.view.id, reason="left in a log", by="ops@acme")
    head = metering.catch_up()
    assert metering.access_keys.revoke(new.view.id, reason="another", by="another") == first
    assert metering.catch_up() == head


def test_keys_are_listed_in_the_order_of_their_creation(metering: Metering) -> None:
    """The order follows neither from their ids nor from a clock that returns the same time."""
    created = [metering.access_keys.create(["read"], str(number)).view for number in range(8)]
    revoked = metering.access_keys.revoke(created[2].id)
    assert metering.access_keys.list() == [*created[:2], revoked, *created[3:]]


def test_no_message_shows_a_key_passed_as_an_id(metering: Metering, new: NewAccessKey) -> None:
    """A caller may pass the whole key to `revoke` by mistake; the error doesn't contain its secret."""
    with pytest.raises(TallybookError, match=rf"rk_live_\*\*\*\*{new.key[-4:]}") as message:
        metering.access_keys.revoke(new.key)
    assert parse(new).secret not in f"{message.value!r} {message.value.as_dict()} {vars(message.value)}"


def test_the_secret_is_never_stored_shown_or_logged(
    store: Store, metering: Metering, caplog: pytest.LogCaptureFixture
) -> None:
    """No stored event, repr or log record contains the secret; only the attribute `key` does."""
    caplog.set_level(logging.DEBUG)
    new = metering.access_keys.create(["admin"], "all of it")
    metering.access_keys.authenticate(new.key)
    metering.access_keys.revoke(new.view.id)
    message = error_message(metering, new.key)
    ledger = metering._ledger if not store.location.is_persistent else store.ledger()  # pyright: ignore[reportPrivateUsage]
    stored = ledger.raw_rows(1, ledger.head(), 100)
    if store.location.is_persistent:
        ledger.close()
    assert len(stored) == 2
    shown_texts = [repr(stored), repr(new), str(new), repr(metering.access_keys.list()), message, caplog.text]
    secret = parse(new).secret
    assert not [text for text in shown_texts if secret in text or secret[:-4] in text]


def test_the_files_of_a_ledger_hold_no_secret(file_store: SQLiteFile) -> None:
    """The files of the read models and the write-ahead logs don't contain the secret either."""
    with file_store.metering() as metering:
        new = metering.access_keys.create(["read"], "to be found in the file")
        metering.access_keys.authenticate(new.key)
        metering.catch_up()
        content = b"".join(file.read_bytes() for file in file_store.file.parent.iterdir())
    assert b"to be found in the file" in content
    assert parse(new).secret.encode() not in content


def test_usage_is_counted_and_verified_with_keys_in_the_ledger(metering: Metering) -> None:
    """Events of keys don't change totals and don't stop a projection or a verification."""
    before = metering.access_keys.create(["read"])
    record_history(metering)
    metering.access_keys.revoke(before.view.id)
    metering.access_keys.create(["record"])
    assert metering.verify().is_equal
    rebuilt = metering.generations.rebuild()
    assert rebuilt.position == rebuilt.head
    metering.generations.promote(rebuilt.number)
    assert metering.verify().is_equal
    assert [key.revoked_at for key in metering.access_keys.list()] == [NOW, None]


def test_an_existing_id_is_not_generated_again(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a generated id exists already, a new id is generated, and the existing key is unchanged."""
    keys = AccessKeyCommands(ledger, lambda: NOW)
    first = keys.create(["read"])
    salt = "5a" * 32
    generated = iter([first.view.id, salt, "f" * 16, salt])

    def next_one(_size: int) -> str:
        return next(generated)

    monkeypatch.setattr(secrets, "token_hex", next_one)
    second = keys.create(["read"])
    assert second.view.id == "f" * 16
    assert [keys.authenticate(key.key) for key in (first, second)] == [first.view, second.view]


def test_the_number_of_cached_keys_is_limited(ledger: Ledger) -> None:
    """The key that was verified first is evicted, and read from the ledger again when it is used."""
    cache = KeyCache(ledger, max_keys=3)
    keys = AccessKeyCommands(ledger, lambda: NOW, Authenticator(ledger, cache))
    created = [keys.create(["read"]) for _ in range(5)]
    for _ in range(2):
        assert [keys.authenticate(key.key) for key in created] == [key.view for key in created]
    assert len(cache) == 3
    assert [cache.get(key.key) for key in created] == [None, None, *(key.view for key in created[2:])]
