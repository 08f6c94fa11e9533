"""Reads forms, within limits of size and time."""

import asyncio

from starlette.requests import ClientDisconnect, Request

from ..http.errors import ApiError
from .query_string import Parameters

MAX_FORM_BYTES = 64 * 1024
TIMEOUT_SECONDS = 15.0


async def read_form(request: Request) -> Parameters:
    """Return the fields of a form. Raises ApiError if the body is too large, incomplete, too slow, or no form."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise ApiError(400, "The body must be a form.")
    body = bytearray()
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_FORM_BYTES:
                    raise ApiError(413, f"The form is larger than {MAX_FORM_BYTES} bytes.")
        return Parameters.parse(body.decode())
    except ClientDisconnect:
        raise ApiError(408, "The browser went away.") from None
    except TimeoutError:
        raise ApiError(408, "The form was not received in time.") from None
    except ValueError:
        raise ApiError(400, "The form is not valid.") from None
