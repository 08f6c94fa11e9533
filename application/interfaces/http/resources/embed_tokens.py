"""Embed tokens: for a page of the console that a host application shows to one of its customers."""

from datetime import timedelta
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .....domain.access_key import Scope
from ..api_types import Customer, Parameters, to_unix
from ..embed_tokens import EmbedTokens
from ..ledgers import RequestContext
from ..operations import OperationRegistry

URL = "/v1/billing/embed_tokens"
operations = OperationRegistry("Embed tokens")
MAX_SECONDS = 3_600


class EmbedToken(msgspec.Struct, kw_only=True):
    """A token, valid until `expires_at`, for `/console/embed?token=TOKEN`: the usage of a customer, read only."""

    object: Literal["billing.embed_token"] = "billing.embed_token"
    customer: str
    expires_at: int
    livemode: bool
    token: str


class CreateEmbedToken(Parameters, kw_only=True):
    """The customer whose usage the page shows, and for how many seconds."""

    customer: Customer
    expires_in: Annotated[int, Meta(ge=60, le=MAX_SECONDS)] = 900


@operations.post(URL, Scope.READ, is_secret=True)
def create_embed_token(context: RequestContext[CreateEmbedToken]) -> EmbedToken:
    """Create a token for a page that shows one customer's usage, inside of a page of yours.

    It is valid only while your access key is. A key that is limited to customers creates tokens for these only.
    """
    params, ledger = context.params, context.ledger
    lifetime = timedelta(seconds=params.expires_in)
    token, expires_at = EmbedTokens(ledger).create(context.access_key, params.customer, lifetime)
    return EmbedToken(
        customer=params.customer, expires_at=to_unix(expires_at), livemode=ledger.livemode, token=token
    )  # fmt: skip
