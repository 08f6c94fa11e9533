"""An access key: created with the hash of its secret, and revoked once."""

import hashlib
import hmac
from datetime import timedelta

import pytest
from tallybook.domain import AccessKey, Scope

from ..notation import moment

NOON = moment("12:00")
SECRET, SALT = "s" * 43, "5a" * 32


@pytest.fixture
def key() -> AccessKey:
    """Return a key with the scope `record`."""
    return AccessKey.create(
        "0123456789abcdef", SECRET, salt=SALT, name="importer", scopes=(Scope.RECORD,), livemode=True, by="ops", at=NOON
    )


def test_a_new_key_stores_the_hash_of_its_secret(key: AccessKey) -> None:
    """It is a standard HMAC-SHA256 keyed with the salt; no event contains the secret."""
    (created,) = key.collect_events()
    assert isinstance(created, AccessKey.AccessKeyCreated)
    assert created.hash == hmac.new(bytes.fromhex(SALT), SECRET.encode(), hashlib.sha256).hexdigest()
    assert SECRET not in repr(created) + repr(key) + created.model_dump_json()
    assert (key.id, key.key_id, key.created_on) == ("key/0123456789abcdef", "0123456789abcdef", NOON)
    assert (key.name, key.scopes, key.livemode, key.created_by) == ("importer", (Scope.RECORD,), True, "ops")


@pytest.mark.parametrize(
    ("scopes", "stored", "is_record_only"),
    [
        ((Scope.RECORD,), (Scope.RECORD,), True),
        ((Scope.RECORD, Scope.CANCEL), (Scope.RECORD, Scope.CANCEL), False),
        ((Scope.READ,), (Scope.READ,), False),
    ],
)
def test_the_duty_to_record_is_not_that_to_cancel(
    scopes: tuple[Scope, ...], stored: tuple[Scope, ...], is_record_only: bool
) -> None:
    """The stored event says so, because a key of a version without the scope `cancel` may cancel if it may record."""
    key = AccessKey.create("0" * 16, SECRET, salt=SALT, name="", scopes=scopes, livemode=True, by=None, at=NOON)
    (created,) = key.collect_events()
    assert isinstance(created, AccessKey.AccessKeyCreated)
    assert (created.scopes, created.is_record_only, key.scopes) == (stored, is_record_only, scopes)
    earlier = created.model_copy(update={"is_record_only": False}).mutate(None)
    assert isinstance(earlier, AccessKey)
    assert earlier.scopes == ((Scope.RECORD, Scope.CANCEL) if Scope.RECORD in scopes else scopes)


@pytest.mark.parametrize("other", ["", "s" * 42, "s" * 44, "s" * 42 + "t", "S" * 43, SALT, "ü" * 43])
def test_a_key_verifies_only_its_own_secret(key: AccessKey, other: str) -> None:
    """Every character is compared."""
    assert key.verify_secret(SECRET)
    assert not key.verify_secret(other)


def test_a_key_with_another_salt_has_another_hash(key: AccessKey) -> None:
    """So equal secrets have different hashes."""
    other = AccessKey.create(
        key.key_id, SECRET, salt="a5" * 32, name="", scopes=key.scopes, livemode=True, by=None, at=NOON
    )
    assert other.hash != key.hash
    assert other.verify_secret(SECRET)


def test_a_key_is_revoked_once(key: AccessKey) -> None:
    """The first revocation stays, with its time, reason and author."""
    key.collect_events()
    assert not key.is_revoked
    key.revoke(reason="left in a log", by="ops", at=NOON + timedelta(hours=1))
    key.revoke(reason="another", by="another", at=NOON + timedelta(hours=2))
    assert [type(event).__name__ for event in key.collect_events()] == ["AccessKeyRevoked"]
    assert key.is_revoked
    assert (key.revoked_at, key.reason, key.revoked_by) == (NOON + timedelta(hours=1), "left in a log", "ops")


@pytest.mark.parametrize(
    ("scope", "allowed"), [*((str(scope), [scope]) for scope in Scope if scope != "admin"), ("admin", [*Scope])]
)
def test_a_scope_allows_itself_and_admin_everything(scope: str, allowed: list[str]) -> None:
    """`record` doesn't allow `read`, and `read` doesn't allow `record`."""
    assert [wanted for wanted in Scope if Scope(scope).allows(wanted)] == allowed
