"""The signature of deliveries, as Stripe's official helpers verify it."""

import hmac
from datetime import datetime

from ..times import unix


def signature(body: bytes, secret: str, at: datetime) -> str:
    """The Stripe-Signature header of a body that is sent at a time."""
    seconds = unix(at)
    code = hmac.digest(secret.encode(), b"%d.%b" % (seconds, body), "sha256").hex()
    return f"t={seconds},v1={code}"
