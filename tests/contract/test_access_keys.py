"""Access keys on every store: told once, recognised, and refused from the moment that they are revoked."""

import logging
import secrets
from collections.abc import Callable

import pytest
from tallybook.application import AccessKeyView, Metering, NewAccessKey, Scope, TallybookError
from tallybook.application.access import AccessKeys
from tallybook.application.access_key_text import KeyText, taken_apart
from tallybook.application.ledger import Ledger
from tallybook.application.verified_keys import VerifiedKeys

from .histories import record_history
from .kept_stores import SQLiteFile
from .stores import NOW, Store


@pytest.fixture
def new(metering: Metering) -> NewAccessKey:
    """A key that has just been created, to record and to read."""
    return metering.create_access_key(["read", "record"], "importer", by="ops@acme")


def parts(new: NewAccessKey) -> KeyText:
    """A key, taken apart."""
    key = taken_apart(new.key)
    assert key is not None
    return key


def refusal(metering: Metering, key: str) -> str:
    """The message that a key is refused with."""
    with pytest.raises(TallybookError) as refused:
        metering.authenticate(key)
    assert (refused.value.code, refused.value.value) == ("invalid_access_key", None)
    return refused.value.message


def test_a_key_is_created_and_recognised(metering: Metering, new: NewAccessKey) -> None:
    """Its view tells all but the secret; showing it again and again gives the same."""
    assert new.view == AccessKeyView(
        parts(new).key_id, "importer", (Scope.RECORD, Scope.READ), True, NOW, "ops@acme", None, None, None
    )
    assert [metering.authenticate(new.key) for _ in range(3)] == [new.view] * 3
    assert metering.access_keys() == [new.view]


def test_a_key_is_recognised_by_who_opens_the_ledger_later(store: Store, metering: Metering, new: NewAccessKey) -> None:
    """It is in the ledger, and not in who created it."""
    if store.place.is_lasting:
        with store.metering() as other:
            assert other.authenticate(new.key) == new.view


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
def test_the_beginning_of_a_key_tells_what_it_is(
    metering: Metering, scopes: list[str], livemode: bool, prefix: str
) -> None:
    """Secret or restricted, live or test, as Stripe's; the hint is that and the id."""
    new = metering.create_access_key(scopes, livemode=livemode)
    view = metering.authenticate(new.key)
    assert view.hint == prefix + view.id
    assert new.key.startswith(f"{view.hint}_")
    assert (view.livemode, view.name, view.created_by) == (livemode, "", None)
    assert {scope for scope in Scope if view.allows(scope)} == (set(Scope) if "admin" in scopes else set(scopes))


MANGLED: dict[str, Callable[[KeyText], str]] = {
    "another secret": lambda key: f"{key.hint}_{secrets.token_urlsafe(32)}",
    "nearly its secret": lambda key: f"{key.hint}_{'A' if key.secret[0] != 'A' else 'B'}{key.secret[1:]}",
    "no secret": lambda key: f"{key.hint}_",
    "a secret cut short": lambda key: f"{key.hint}_{key.secret[:-1]}",
    "a longer secret": lambda key: f"{key.hint}_{key.secret}A",
    "its hint": lambda key: key.hint,
    "another id": lambda key: f"rk_live_{'0' * 16}_{key.secret}",
    "an id in capitals": lambda key: f"rk_live_{'A' * 16}_{key.secret}",
    "more rights": lambda key: f"sk_live_{key.key_id}_{key.secret}",
    "another mode": lambda key: f"rk_test_{key.key_id}_{key.secret}",
    "another prefix": lambda key: f"pk_live_{key.key_id}_{key.secret}",
    "a line after it": lambda key: f"{key.hint}_{key.secret}\n",
    "a space before it": lambda key: f" {key.hint}_{key.secret}",
    "digits of another script": lambda key: f"rk_live_{'٣' * 16}_{key.secret}",
    "half a character": lambda key: f"{key.hint}_{key.secret[:-1]}\ud800",
    "a NUL": lambda key: f"{key.hint}_{key.secret[:-1]}\0",
    "a very long one": lambda key: f"{key.hint}_{key.secret * 10_000}",
    "nothing": lambda _: "",
}


@pytest.mark.parametrize("mangled", MANGLED.values(), ids=MANGLED)
@pytest.mark.parametrize("is_known", [False, True], ids=["at first", "once verified"])
def test_what_is_not_wholly_the_key_is_refused(
    metering: Metering, new: NewAccessKey, mangled: Callable[[KeyText], str], is_known: bool
) -> None:
    """With one code and one sentence for all, which shows no more than the prefix and the last four characters."""
    if is_known:
        metering.authenticate(new.key)
    key = mangled(parts(new))
    message = refusal(metering, key)
    assert message.startswith("Invalid API Key provided: ")
    assert len(message) <= len("Invalid API Key provided: sk_live_****abcd.")
    assert parts(new).secret[:-4] not in message
    assert metering.authenticate(new.key) == new.view


def test_a_refusal_shows_prefix_and_last_four(metering: Metering, new: NewAccessKey) -> None:
    """As Stripe's does, so that its holder knows which key it is; of what may be a password, nothing."""
    metering.revoke_access_key(new.view.id)
    assert refusal(metering, new.key) == f"Invalid API Key provided: rk_live_****{new.key[-4:]}."
    assert refusal(metering, "sk_live_swordfish") == "Invalid API Key provided: sk_live_****."
    assert refusal(metering, "correct horse battery staple") == "Invalid API Key provided: ****."


def test_a_secret_opens_its_own_key_only(metering: Metering, new: NewAccessKey) -> None:
    """The secret of one key under the id of another is as good as none."""
    other = metering.create_access_key(["read", "record"])
    refusal(metering, f"{new.view.hint}_{parts(other).secret}")
    refusal(metering, f"{other.view.hint}_{parts(new).secret}")


def test_a_revoked_key_is_refused_at_once_wherever_it_was_revoked(kept_store: Store) -> None:
    """Also where it was verified a moment ago, and another program revokes it."""
    with kept_store.metering() as one, kept_store.metering() as other:
        new, stays = one.create_access_key(["record"]), one.create_access_key(["record"])
        for key in (new, stays):
            assert one.authenticate(key.key) == other.authenticate(key.key) == key.view
        revoked = other.revoke_access_key(new.view.id, reason="left in a log", by="ops@acme")
        assert (revoked.revoked_at, revoked.reason, revoked.revoked_by) == (NOW, "left in a log", "ops@acme")
        for metering in (one, other):
            refusal(metering, new.key)
            assert metering.authenticate(stays.key) == stays.view
        assert one.access_keys() == [revoked, stays.view]


def test_revoking_again_gives_the_first_revocation(metering: Metering, new: NewAccessKey) -> None:
    """Nothing is stored the second time."""
    first = metering.revoke_access_key(new.view.id, reason="left in a log", by="ops@acme")
    head = metering.catch_up()
    assert metering.revoke_access_key(new.view.id, reason="another", by="another") == first
    assert metering.catch_up() == head


def test_keys_are_listed_in_the_order_of_their_creation(metering: Metering) -> None:
    """Their ids tell nothing of it, nor does a clock that stands."""
    made = [metering.create_access_key(["read"], str(number)).view for number in range(8)]
    revoked = metering.revoke_access_key(made[2].id)
    assert metering.access_keys() == [*made[:2], revoked, *made[3:]]


def test_no_message_shows_a_key_that_is_given_for_an_id(metering: Metering, new: NewAccessKey) -> None:
    """Who revokes a key in haste may well paste all of it."""
    with pytest.raises(TallybookError, match=rf"rk_live_\*\*\*\*{new.key[-4:]}") as refused:
        metering.revoke_access_key(new.key)
    assert parts(new).secret not in f"{refused.value!r} {refused.value.as_dict()} {vars(refused.value)}"


def test_the_secret_is_in_nothing_that_is_stored_shown_or_logged(
    store: Store, metering: Metering, caplog: pytest.LogCaptureFixture
) -> None:
    """In no byte of the ledger, and in nothing that a program prints of what it was given but `key` itself."""
    caplog.set_level(logging.DEBUG)
    new = metering.create_access_key(["admin"], "all of it")
    metering.authenticate(new.key)
    metering.revoke_access_key(new.view.id)
    refused = refusal(metering, new.key)
    ledger = metering._ledger if not store.place.is_lasting else store.ledger()  # pyright: ignore[reportPrivateUsage]
    stored = ledger.stored_rows(1, ledger.head(), 100)
    if store.place.is_lasting:
        ledger.close()
    assert len(stored) == 2
    told = [repr(stored), repr(new), str(new), repr(metering.access_keys()), refused, caplog.text]
    secret = parts(new).secret
    assert not [one for one in told if secret in one or secret[:-4] in one]


def test_the_files_of_a_ledger_hold_no_secret(file_store: SQLiteFile) -> None:
    """Nor do the read models, nor what SQLite keeps beside its files."""
    with file_store.metering() as metering:
        new = metering.create_access_key(["read"], "to be found in the file")
        metering.authenticate(new.key)
        metering.catch_up()
        content = b"".join(file.read_bytes() for file in file_store.file.parent.iterdir())
    assert b"to be found in the file" in content
    assert parts(new).secret.encode() not in content


def test_usage_is_counted_and_verified_beside_keys(metering: Metering) -> None:
    """Keys neither count nor stop a fold, however it is begun."""
    before = metering.create_access_key(["read"])
    record_history(metering)
    metering.revoke_access_key(before.view.id)
    metering.create_access_key(["record"])
    assert metering.verify().is_equal
    rebuilt = metering.rebuild()
    assert rebuilt.position == rebuilt.head
    metering.promote(rebuilt.number)
    assert metering.verify().is_equal
    assert [key.revoked_at for key in metering.access_keys()] == [NOW, None]


def test_an_id_that_is_taken_is_not_given_again(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chance would have to want it; the key that has it is not touched."""
    keys = AccessKeys(ledger, lambda: NOW)
    first = keys.create(["read"])
    salt = "5a" * 32
    generated = iter([first.view.id, salt, "f" * 16, salt])

    def next_one(_size: int) -> str:
        return next(generated)

    monkeypatch.setattr(secrets, "token_hex", next_one)
    second = keys.create(["read"])
    assert second.view.id == "f" * 16
    assert [keys.authenticate(key.key) for key in (first, second)] == [first.view, second.view]


def test_so_many_keys_are_remembered_and_no_more(ledger: Ledger) -> None:
    """The one that was verified first makes room; it is read anew when it comes again."""
    keys = AccessKeys(ledger, lambda: NOW)
    keys.verified = VerifiedKeys(ledger, most=3)
    made = [keys.create(["read"]) for _ in range(5)]
    for _ in range(2):
        assert [keys.authenticate(one.key) for one in made] == [one.view for one in made]
    assert len(keys.verified) == 3
    assert [keys.verified.get(one.key) for one in made] == [None, None, *(one.view for one in made[2:])]
