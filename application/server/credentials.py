"""Who asks: the key or the session that a request brings along, and what it may do."""

from base64 import b64decode

from ...domain.access_key import Scope
from ...domain.errors import InvalidAccessKey
from ..access import AccessKeyView
from ..metering import Metering
from .refusals import Refusal

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="Tallybook"'}


def unauthorized(message: str, code: str = "", kind: str = "invalid_request_error", doc_url: str = "") -> Refusal:
    """Nobody that is known asks."""
    return Refusal(401, message, kind=kind, code=code, doc_url=doc_url, headers=_CHALLENGE)


def credentials_of(authorization: str) -> str:
    """The key in an Authorization header: a bearer's, or the user of Basic, as curl -u sends it. Empty for none."""
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return given.strip()
    if scheme.lower() == "basic":
        try:
            return b64decode(given.strip(), validate=True).decode().partition(":")[0]
        except ValueError:
            return ""
    return ""


class Gate:
    """Lets in who has a key with the scope for what they ask."""

    def __init__(self, keys: Metering) -> None:
        self._keys = keys

    def enter(self, credentials: str, scope: Scope) -> AccessKeyView:
        """The key behind `credentials`, as it is at this moment. Raises Refusal: 401, or 403 without the scope."""
        if not credentials:
            raise unauthorized(
                "You did not provide an API key. Provide it in the Authorization header, using Bearer auth (e.g. "
                "'Authorization: Bearer YOUR_SECRET_KEY')."
            )
        try:
            key = self._keys.authenticate(credentials)
        except InvalidAccessKey as error:
            raise unauthorized(error.message, error.code) from None
        return permitted(key, scope)

    def again(self, key_id: str) -> AccessKeyView:
        """The key that was let in before, as it is at this moment. Raises Refusal where it was revoked."""
        key = self._keys.access_key(key_id)
        if key.revoked_at is not None:
            raise unauthorized("The key that this session was begun with was revoked.")
        return key


def permitted(key: AccessKeyView, scope: Scope) -> AccessKeyView:
    """The key, where it has the scope. Raises Refusal."""
    if not key.allows(scope):
        raise Refusal(
            403,
            f"The provided key '{key.hint}' does not have the required permissions for this endpoint: it needs the "
            f"scope '{scope}'.",
            code="more_permissions_required",
        )
    return key
