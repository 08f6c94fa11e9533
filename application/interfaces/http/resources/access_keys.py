"""Access keys: create, list and revoke them. An extension.

A key with the scope `keys` grants and revokes only scopes that it has itself, so that it can't get others by a new key.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from .....domain.access_key import Scope
from .....domain.errors import AccessKeyNotFound
from ....access_keys.views import AccessKeyView
from ....commands.access_keys import MAX_CUSTOMERS, AccessKeyCommands
from ..api_types import Customer, Id, ListObject, ListParameters, Parameters, Reason, optional_unix, to_unix
from ..authentication import require_livemode
from ..errors import ApiError, missing_object
from ..ledgers import RequestContext
from ..operations import OperationRegistry
from ..pagination import list_response, paginate

URL = "/v1/billing/access_keys"
operations = OperationRegistry("Access keys")


class CreateAccessKey(Parameters, kw_only=True):
    """The scopes of a new key, its name, its mode, and the customers that it may only read.

    `by` is stored as `on_behalf_of`.
    """

    by: Reason | None = None
    customers: Annotated[tuple[Customer, ...], Meta(max_length=MAX_CUSTOMERS)] = ()
    livemode: bool = True
    name: Annotated[str, Meta(max_length=250)] = ""
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=len(Scope))]


class RevokeAccessKey(Parameters, kw_only=True):
    """Why a key is revoked, and by whom. `by` is stored as `on_behalf_of`."""

    by: Reason | None = None
    reason: Reason | None = None


class ListAccessKeys(ListParameters, kw_only=True):
    """A list of access keys."""


class BillingAccessKey(msgspec.Struct, kw_only=True):
    """An access key. Its secret is in `key`, in the response that creates it, and nowhere else."""

    id: str
    object: Literal["billing.access_key"] = "billing.access_key"
    created: int
    created_by: str | None
    customers: list[str]
    hint: str
    key: str | None
    livemode: bool
    name: str
    reason: str | None
    revoked_at: int | None
    revoked_by: str | None
    scopes: list[Scope]


@operations.post(URL, Scope.KEYS, is_secret=True)
def create_access_key(context: RequestContext[CreateAccessKey]) -> BillingAccessKey:
    """Create an access key with scopes that the caller's key has. The response shows the key this one time."""
    params = context.params
    _require_own_scopes(context.access_key, params.scopes, "grant")
    created = _keys(context).create(
        params.scopes, params.name, livemode=params.livemode, by=params.by, customers=params.customers
    )
    return _to_object(created.view, created.key)


@operations.get(URL, Scope.KEYS)
def list_access_keys(context: RequestContext[ListAccessKeys]) -> ListObject[BillingAccessKey]:
    """List access keys of both modes, newest first, without their secrets."""
    newest_first = _keys(context).list()[::-1]

    def decode_cursor(object_id: str) -> tuple[object, ...] | None:
        return next((_sort_key(view) for view in newest_first if view.id == object_id), None)

    page, has_more = paginate(newest_first, _sort_key, decode_cursor, context.params)
    return list_response([_to_object(view) for view in page], URL, has_more=has_more)


@operations.get(URL + "/{id}", Scope.KEYS)
def retrieve_access_key(context: RequestContext[Parameters]) -> BillingAccessKey:
    """Retrieve an access key, revoked or not."""
    return _to_object(_find(context, context.path_parameters["id"]))


@operations.post(URL + "/{id}/revoke", Scope.KEYS)
def revoke_access_key(context: RequestContext[RevokeAccessKey]) -> BillingAccessKey:
    """Revoke an access key whose scopes the caller's key has, for all processes at once."""
    params, view = context.params, _find(context, context.path_parameters["id"])
    _require_own_scopes(context.access_key, view.scopes, "revoke")
    return _to_object(_keys(context).revoke(view.id, reason=params.reason, by=params.by))


def _keys(context: RequestContext[Any]) -> AccessKeyCommands:
    """Return the access keys of both modes, which the live ledger stores. Raises ApiError for a key of test mode."""
    require_livemode(context.access_key)
    return context.ledger.metering.access_keys


def _find(context: RequestContext[Any], key_id: Id) -> AccessKeyView:
    try:
        return _keys(context).get(key_id)
    except AccessKeyNotFound:
        raise missing_object("access key", key_id) from None


def _require_own_scopes(caller: AccessKeyView, scopes: Sequence[Scope], action: str) -> None:
    """Raise ApiError for scopes that the caller's key doesn't have."""
    missing = [scope.value for scope in scopes if not caller.allows(scope)]
    if missing:
        raise ApiError(
            403,
            f"The provided key '{caller.hint}' can't {action} scopes that it doesn't have: {', '.join(missing)}.",
            code="more_permissions_required",
            param="scopes" if action == "grant" else "id",
        )


def _sort_key(view: AccessKeyView) -> tuple[object, ...]:
    return view.created_at, view.id


def _to_object(view: AccessKeyView, key: str | None = None) -> BillingAccessKey:
    return BillingAccessKey(
        id=view.id,
        created=to_unix(view.created_at),
        created_by=view.created_by,
        customers=list(view.customers),
        hint=view.hint,
        key=key,
        livemode=view.livemode,
        name=view.name,
        reason=view.reason,
        revoked_at=optional_unix(view.revoked_at),
        revoked_by=view.revoked_by,
        scopes=list(view.scopes),
    )
