"""Sends responses in pieces, and counts the bytes that clients have not read."""

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .errors import too_many_unread_responses
from .memory_budget import BudgetExceeded, MemoryBudget, MemoryReservation
from .responses import ApiResponse, error_response

PIECE_BYTES = 64 * 1024
"""A response up to this size is sent at once and needs no budget."""
MAX_UNREAD_BYTES, MAX_UNREAD_BYTES_PER_KEY = 64 * 1024 * 1024, 8 * 1024 * 1024


def unread_response_budget() -> MemoryBudget:
    """Return the budget of the responses that wait to be read."""
    return MemoryBudget(MAX_UNREAD_BYTES, MAX_UNREAD_BYTES_PER_KEY)


class SentResponse(Response):
    """A response whose bytes are held until the client has read nearly all of them."""

    def __init__(self, response: ApiResponse, request_id: str, reservation: MemoryReservation) -> None:
        headers = {"Request-Id": request_id, **response.headers}
        super().__init__(response.body, response.status, headers, response.media_type)
        self._reservation = reservation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - of an ASGI app
        """Send the body in pieces. The server waits between them until the client reads."""
        body = self.body
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for start in range(0, max(len(body), 1), PIECE_BYTES):
                end = start + PIECE_BYTES
                piece = bytes(body[start:end])
                await send({"type": "http.response.body", "body": piece, "more_body": end < len(body)})
        finally:
            self._reservation.release()


def within_budget(response: ApiResponse, key_id: str, reservation: MemoryReservation, *, is_v2: bool) -> ApiResponse:
    """Return the response if the key may hold its bytes, otherwise an error."""
    if len(response.body) <= PIECE_BYTES:
        return response
    try:
        reservation.resize(key_id, len(response.body))
    except BudgetExceeded:
        return error_response(too_many_unread_responses(), is_v2=is_v2)
    return response


def count_unread(response: ApiResponse, key_id: str, reservation: MemoryReservation) -> None:
    """Count the bytes of a response that is sent in any case, because it says what was recorded."""
    if len(response.body) > PIECE_BYTES:
        reservation.require(key_id, len(response.body))
