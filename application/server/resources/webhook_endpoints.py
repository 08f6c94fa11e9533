"""Webhook endpoints, as Stripe's v1 has them: where events are delivered to."""

from hashlib import sha256
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from ....domain.access_key import Scope
from ..desk import Call, Desk
from ..idempotency import other_parameters
from ..paging import listed, page
from ..parameters import check_text
from ..refusals import Refusal, invalid_parameter, missing_object
from ..routes import Routes
from ..times import unix
from ..webhooks.endpoints import MOST_ENDPOINTS, Beginning, Endpoint, Endpoints, new_endpoint_id, new_secret
from ..webhooks.event_types import EVERYTHING, SNAPSHOTS, THIN
from ..webhooks.stored_events import may_be_an_id
from ..wire import Listed, ListParameters, Parameters

URL = "/v1/webhook_endpoints"
PREFIX = "we_"
routes = Routes("Webhook endpoints")

Url = Annotated[str, Meta(min_length=1, max_length=2_000, description="http or https.")]
EventTypes = Annotated[list[Annotated[str, Meta(min_length=1, max_length=100)]], Meta(min_length=1, max_length=50)]
Description = Annotated[str, Meta(max_length=5_000)]
Metadata = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=40)], Annotated[str, Meta(max_length=500)]], Meta(max_length=50)
]
_LAST_PORT = 65_535


class WebhookEndpoint(msgspec.Struct, kw_only=True):
    """Where events are delivered to, and which ones."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    api_version: None = None
    application: None = None
    created: int
    description: str | None
    enabled_events: list[str]
    livemode: bool
    metadata: dict[str, str]
    status: Literal["enabled", "disabled"]
    url: str


class NewWebhookEndpoint(WebhookEndpoint, kw_only=True):
    """An endpoint that has begun. Its secret, which deliveries are signed with, is told here alone."""

    secret: str


class DeletedWebhookEndpoint(msgspec.Struct, kw_only=True):
    """An endpoint that is no more."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    deleted: Literal[True] = True


class CreateWebhookEndpoint(Parameters, kw_only=True):
    """An endpoint to begin. With `*` it is told of everything, of each thing in one form."""

    url: Url
    enabled_events: EventTypes
    description: Description | None = None
    metadata: Metadata = msgspec.field(default_factory=dict[str, str])


class UpdateWebhookEndpoint(Parameters, kw_only=True):
    """What of an endpoint changes."""

    url: Url | None = None
    enabled_events: EventTypes | None = None
    description: Description | None = None
    disabled: bool | None = None
    metadata: Metadata = msgspec.field(default_factory=dict[str, str])


@routes.post(URL, is_secret=True)
def create_webhook_endpoint(call: Call[CreateWebhookEndpoint]) -> NewWebhookEndpoint:
    """Begin an endpoint. Events from now on are delivered to it, signed with the secret that is told here alone.

    The same request with the same idempotency key tells of the same endpoint.
    """
    asked, endpoints = call.asked, Endpoints(call.desk.keeper)
    beginning = _beginning(call)
    endpoint = Endpoint(
        id=new_endpoint_id(),
        url=_url(asked.url),
        enabled_events=_event_types(asked.enabled_events),
        description=None if asked.description is None else check_text(asked.description, "description"),
        metadata=_metadata({}, asked.metadata),
        created=unix(call.desk.now()),
        secret=new_secret(),
        begun_with=beginning,
    )
    with endpoints.alone():
        before = endpoints.begun_with(beginning.key) if beginning else None
        if before is not None:
            if before.begun_with != beginning:
                raise other_parameters(call.idempotency_key or "")
            return NewWebhookEndpoint(**_fields(before, call.desk), secret=before.secret)
        if len(endpoints.all()) >= MOST_ENDPOINTS:
            raise Refusal(400, f"There are {MOST_ENDPOINTS} webhook endpoints already, which is as many as can be.",
                          code="resource_limit_exceeded")  # fmt: skip
        endpoints.add(endpoint)
    return NewWebhookEndpoint(**_fields(endpoint, call.desk), secret=endpoint.secret)


@routes.get(URL, Scope.ADMIN)
def list_webhook_endpoints(call: Call[ListParameters]) -> Listed[WebhookEndpoint]:
    """List endpoints, newest first."""
    every = Endpoints(call.desk.keeper).all()
    data, has_more = page(every, lambda one: (one.id,), _cursor, call.asked)
    return listed([_answer(one, call.desk) for one in data], URL, has_more=has_more)


@routes.get(URL + "/{id}", Scope.ADMIN)
def retrieve_webhook_endpoint(call: Call[Parameters]) -> WebhookEndpoint:
    """Retrieve an endpoint."""
    return _answer(_found(call.desk, call.path["id"]), call.desk)


@routes.post(URL + "/{id}")
def update_webhook_endpoint(call: Call[UpdateWebhookEndpoint]) -> WebhookEndpoint:
    """Update an endpoint. Nothing is delivered to one that is disabled."""
    with Endpoints(call.desk.keeper).alone():
        changed = _changed(call.asked, _found(call.desk, call.path["id"]))
        Endpoints(call.desk.keeper).put(changed)
    return _answer(changed, call.desk)


@routes.delete(URL + "/{id}")
def delete_webhook_endpoint(call: Call[Parameters]) -> DeletedWebhookEndpoint:
    """Delete an endpoint, with what is still to be delivered to it."""
    with Endpoints(call.desk.keeper).alone():
        endpoint = _found(call.desk, call.path["id"])
        Endpoints(call.desk.keeper).delete(endpoint)
    return DeletedWebhookEndpoint(id=endpoint.id)


def _beginning(call: Call[CreateWebhookEndpoint]) -> Beginning | None:
    """What tells a request that is sent again: its answer isn't kept, as there is a secret in it."""
    if call.idempotency_key is None:
        return None
    key, asked = f"{call.key.id}/{call.idempotency_key}".encode(), msgspec.json.encode(call.asked)
    return Beginning(sha256(key).hexdigest(), sha256(asked).hexdigest())


def _changed(asked: UpdateWebhookEndpoint, before: Endpoint) -> Endpoint:
    return msgspec.structs.replace(
        before,
        url=before.url if asked.url is None else _url(asked.url),
        enabled_events=before.enabled_events if asked.enabled_events is None else _event_types(asked.enabled_events),
        description=before.description if asked.description is None else check_text(asked.description, "description"),
        status=before.status if asked.disabled is None else "disabled" if asked.disabled else "enabled",
        metadata=_metadata(before.metadata, asked.metadata),
    )


def _found(desk: Desk, endpoint_id: str) -> Endpoint:
    found = Endpoints(desk.keeper).find(endpoint_id) if may_be_an_id(endpoint_id, PREFIX) else None
    if found is None:
        raise missing_object("webhook endpoint", endpoint_id)
    return found


def _answer(endpoint: Endpoint, desk: Desk) -> WebhookEndpoint:
    return WebhookEndpoint(**_fields(endpoint, desk))


def _fields(endpoint: Endpoint, desk: Desk) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "created": endpoint.created,
        "description": endpoint.description,
        "enabled_events": list(endpoint.enabled_events),
        "livemode": desk.livemode,
        "metadata": endpoint.metadata,
        "status": endpoint.status,
        "url": endpoint.url,
    }


def _cursor(given: str) -> tuple[str] | None:
    return (given,) if may_be_an_id(given, PREFIX) else None


def _url(given: str) -> str:
    """An address that can be delivered to. Raises Refusal."""
    try:
        parts = urlsplit(given)
        is_good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) <= _LAST_PORT
    except ValueError:
        is_good, parts = False, urlsplit("")
    if not is_good or not given.isascii() or not given.isprintable() or " " in given:
        raise invalid_parameter("url", "Invalid url: it must be an http or https URL, in ASCII.", "url_invalid")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise invalid_parameter("url", "Invalid url: it must have no user, password or fragment.", "url_invalid")
    return given


def _event_types(given: list[str]) -> tuple[str, ...]:
    for at, one in enumerate(given):
        if one not in (EVERYTHING, *SNAPSHOTS, *THIN):
            known = ", ".join((EVERYTHING, *SNAPSHOTS, *THIN))
            raise invalid_parameter(f"enabled_events[{at}]", f"There are no such events here. There are: {known}.")
    return tuple(dict.fromkeys(given))


def _metadata(before: dict[str, str], given: dict[str, str]) -> dict[str, str]:
    """Metadata with what is given; an empty value takes its key away."""
    for key, value in given.items():
        check_text(key, "metadata")
        check_text(value, f"metadata[{key}]")
    return {key: value for key, value in {**before, **given}.items() if value}
