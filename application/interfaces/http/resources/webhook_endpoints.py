"""Webhook endpoints, as in Stripe's v1 API."""

from hashlib import sha256
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from .....domain.access_key import Scope
from ..api_types import ListObject, ListParameters, Parameters, to_unix
from ..errors import ApiError, invalid_parameter, missing_object
from ..idempotency import parameters_mismatch
from ..ledgers import RequestContext, ServedLedger
from ..operations import OperationRegistry
from ..pagination import list_response, paginate
from ..parameters import check_text
from ..webhooks.endpoints import (
    MAX_ENDPOINTS,
    CreationRequest,
    Endpoint,
    EndpointStore,
    EventFormat,
    new_endpoint_id,
    new_secret,
)
from ..webhooks.events import SNAPSHOT_TYPES, THIN_TYPES, WILDCARD, is_valid_id

URL = "/v1/webhook_endpoints"
PREFIX = "we_"
MAX_METADATA_KEYS = 50
operations = OperationRegistry("Webhook endpoints")

Url = Annotated[str, Meta(min_length=1, max_length=2_000, description="http or https.")]
EventTypes = Annotated[list[Annotated[str, Meta(min_length=1, max_length=100)]], Meta(min_length=1, max_length=50)]
Description = Annotated[str, Meta(max_length=5_000)]
Metadata = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=40)], Annotated[str, Meta(max_length=500)]],
    Meta(max_length=MAX_METADATA_KEYS),
]
_LAST_PORT = 65_535


class WebhookEndpoint(msgspec.Struct, kw_only=True):
    """A webhook endpoint: a URL, and the event types that it receives."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    api_version: None = None
    application: None = None
    created: int
    description: str | None
    enabled_events: list[str]
    event_format: EventFormat
    livemode: bool
    metadata: dict[str, str]
    status: Literal["enabled", "disabled"]
    url: str


class CreatedWebhookEndpoint(WebhookEndpoint, kw_only=True):
    """A new endpoint. The secret, which signs deliveries, appears only in this response."""

    secret: str


class DeletedWebhookEndpoint(msgspec.Struct, kw_only=True):
    """A deleted endpoint."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    deleted: Literal[True] = True


class CreateWebhookEndpoint(Parameters, kw_only=True):
    """An endpoint to create. With `*` it receives every event, each in one form."""

    url: Url
    enabled_events: EventTypes
    event_format: EventFormat = "stripe"
    description: Description | None = None
    metadata: Metadata = msgspec.field(default_factory=dict[str, str])


class UpdateWebhookEndpoint(Parameters, kw_only=True):
    """The changes of an endpoint."""

    url: Url | None = None
    enabled_events: EventTypes | None = None
    event_format: EventFormat | None = None
    description: Description | None = None
    disabled: bool | None = None
    metadata: Metadata = msgspec.field(default_factory=dict[str, str])


@operations.post(URL, is_secret=True)
def create_webhook_endpoint(context: RequestContext[CreateWebhookEndpoint]) -> CreatedWebhookEndpoint:
    """Create an endpoint. It receives events from now on, signed with the secret in this response.

    A repeated request with the same idempotency key returns the same endpoint.
    """
    params, store = context.params, EndpointStore(context.ledger.key_values)
    creation_request = _creation_request(context)
    endpoint = Endpoint(
        id=new_endpoint_id(),
        url=_validate_url(params.url),
        enabled_events=_validate_event_types(params.enabled_events),
        event_format=params.event_format,
        description=None if params.description is None else check_text(params.description, "description"),
        metadata=_merge_metadata({}, params.metadata),
        created=to_unix(context.ledger.now()),
        secret=new_secret(),
        creation_request=creation_request,
    )
    with store.lock():
        existing = store.find_by_idempotency_key(creation_request.key_hash) if creation_request else None
        if existing is not None:
            if existing.creation_request != creation_request:
                raise parameters_mismatch(context.idempotency_key or "")
            return CreatedWebhookEndpoint(**_fields(existing, context.ledger), secret=existing.secret)
        if len(store.all()) >= MAX_ENDPOINTS:
            raise ApiError(400, f"There are {MAX_ENDPOINTS} webhook endpoints already, the maximum. Delete one first.",
                          code="resource_limit_exceeded")  # fmt: skip
        store.add(endpoint)
    return CreatedWebhookEndpoint(**_fields(endpoint, context.ledger), secret=endpoint.secret)


@operations.get(URL, Scope.ADMIN)
def list_webhook_endpoints(context: RequestContext[ListParameters]) -> ListObject[WebhookEndpoint]:
    """List endpoints, newest first."""
    endpoints = EndpointStore(context.ledger.key_values).all()
    data, has_more = paginate(endpoints, lambda endpoint: (endpoint.id,), _decode_cursor, context.params)
    return list_response([_to_response(endpoint, context.ledger) for endpoint in data], URL, has_more=has_more)


@operations.get(URL + "/{id}", Scope.ADMIN)
def retrieve_webhook_endpoint(context: RequestContext[Parameters]) -> WebhookEndpoint:
    """Retrieve an endpoint."""
    return _to_response(_find_or_404(context.ledger, context.path_parameters["id"]), context.ledger)


@operations.post(URL + "/{id}")
def update_webhook_endpoint(context: RequestContext[UpdateWebhookEndpoint]) -> WebhookEndpoint:
    """Update an endpoint. A disabled endpoint receives no events."""
    with EndpointStore(context.ledger.key_values).lock():
        endpoint = _updated(context.params, _find_or_404(context.ledger, context.path_parameters["id"]))
        EndpointStore(context.ledger.key_values).save(endpoint)
    return _to_response(endpoint, context.ledger)


@operations.delete(URL + "/{id}")
def delete_webhook_endpoint(context: RequestContext[Parameters]) -> DeletedWebhookEndpoint:
    """Delete an endpoint with its pending deliveries."""
    with EndpointStore(context.ledger.key_values).lock():
        endpoint = _find_or_404(context.ledger, context.path_parameters["id"])
        EndpointStore(context.ledger.key_values).delete(endpoint)
    return DeletedWebhookEndpoint(id=endpoint.id)


def _creation_request(context: RequestContext[CreateWebhookEndpoint]) -> CreationRequest | None:
    """Return hashes that identify a repeated request. Its response is not stored, because it contains a secret."""
    if context.idempotency_key is None:
        return None
    scoped_key, params_json = (
        f"{context.access_key.id}/{context.idempotency_key}".encode(),
        msgspec.json.encode(context.params),
    )
    return CreationRequest(sha256(scoped_key).hexdigest(), sha256(params_json).hexdigest())


def _updated(params: UpdateWebhookEndpoint, endpoint: Endpoint) -> Endpoint:
    return msgspec.structs.replace(
        endpoint,
        url=endpoint.url if params.url is None else _validate_url(params.url),
        enabled_events=endpoint.enabled_events
        if params.enabled_events is None
        else _validate_event_types(params.enabled_events),
        event_format=params.event_format or endpoint.event_format,
        description=endpoint.description
        if params.description is None
        else check_text(params.description, "description"),
        status=endpoint.status if params.disabled is None else "disabled" if params.disabled else "enabled",
        metadata=_merge_metadata(endpoint.metadata, params.metadata),
    )


def _find_or_404(ledger: ServedLedger, endpoint_id: str) -> Endpoint:
    endpoint = EndpointStore(ledger.key_values).find(endpoint_id) if is_valid_id(endpoint_id, PREFIX) else None
    if endpoint is None:
        raise missing_object("webhook endpoint", endpoint_id)
    return endpoint


def _to_response(endpoint: Endpoint, ledger: ServedLedger) -> WebhookEndpoint:
    return WebhookEndpoint(**_fields(endpoint, ledger))


def _fields(endpoint: Endpoint, ledger: ServedLedger) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "created": endpoint.created,
        "description": endpoint.description,
        "enabled_events": list(endpoint.enabled_events),
        "event_format": endpoint.event_format,
        "livemode": ledger.livemode,
        "metadata": endpoint.metadata,
        "status": endpoint.status,
        "url": endpoint.url,
    }


def _decode_cursor(object_id: str) -> tuple[str] | None:
    return (object_id,) if is_valid_id(object_id, PREFIX) else None


def _validate_url(url: str) -> str:
    """Return the URL if it is valid. Raises ApiError."""
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) <= _LAST_PORT
    except ValueError:
        is_valid, parts = False, urlsplit("")
    if not is_valid or not url.isascii() or not url.isprintable() or " " in url:
        raise invalid_parameter("url", "Invalid url: it must be an http or https URL, in ASCII.", "url_invalid")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise invalid_parameter("url", "Invalid url: it must have no user, password or fragment.", "url_invalid")
    return url


def _validate_event_types(event_types: list[str]) -> tuple[str, ...]:
    for index, event_type in enumerate(event_types):
        if event_type not in (WILDCARD, *SNAPSHOT_TYPES, *THIN_TYPES):
            valid_types = ", ".join((WILDCARD, *SNAPSHOT_TYPES, *THIN_TYPES))
            raise invalid_parameter(f"enabled_events[{index}]", f"Unknown event type. Valid types: {valid_types}.")
    return tuple(dict.fromkeys(event_types))


def _merge_metadata(existing: dict[str, str], updates: dict[str, str]) -> dict[str, str]:
    """Return metadata with updates. An empty value removes its key. Raises ApiError if there are too many keys then."""
    for key, value in updates.items():
        check_text(key, "metadata")
        check_text(value, f"metadata[{key}]")
    metadata = {key: value for key, value in {**existing, **updates}.items() if value}
    if len(metadata) > MAX_METADATA_KEYS:
        raise invalid_parameter(
            "metadata", f"Invalid metadata: an endpoint has at most {MAX_METADATA_KEYS} keys, and would have "
            f"{len(metadata)}. Remove keys by sending them with an empty value.",
        )  # fmt: skip
    return metadata
