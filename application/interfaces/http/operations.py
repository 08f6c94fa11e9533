"""Registry of operations: functions with their method, path and required scope."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints

import msgspec

from ....domain.access_key import Scope
from .responses import JSON_MEDIA_TYPE

Method = Literal["GET", "POST", "DELETE"]
Handler = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class BodyFormat:
    """The bodies of an operation that isn't called with parameters: their types by media type.

    `parse` takes an ApiRequest and returns the parameters. `error_type` is the type of the error response.
    """

    types: Mapping[str, Any]
    parse: Callable[[Any], msgspec.Struct]
    error_type: Any


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the API.

    `run` takes a RequestContext with `params_type` and returns a `response_type`. With `is_recording` it returns a
    RecordRequest, for group commit. With `by_session` it is authenticated by a session token. With `is_secret` its
    response is never stored. With `is_large` its result may take much memory, so that few of them run at once. With
    `is_preview` it changes nothing, though it is no query. With a `body_format` its body has another form than all
    others. With `has_file` it may have the size of one that records. With another `media_type` than JSON it returns a
    WrittenDownload.
    """

    method: Method
    path: str
    scope: Scope
    run: Handler
    params_type: type[msgspec.Struct]
    response_type: Any
    is_recording: bool = False
    by_session: bool = False
    is_secret: bool = False
    is_large: bool = False
    is_preview: bool = False
    body_format: BodyFormat | None = None
    has_file: bool = False
    media_type: str = JSON_MEDIA_TYPE

    @property
    def name(self) -> str:
        """Return the operation id: the name of the function."""
        return self.run.__name__

    @property
    def is_v2(self) -> bool:
        """Return whether responses have the shapes of Stripe's v2 API."""
        return self.path.startswith("/v2/")

    @property
    def is_query(self) -> bool:
        """Return whether the operation changes nothing. It has a deadline, and needs no response that is certain."""
        return self.method == "GET" or self.scope is Scope.READ

    @property
    def stores_response(self) -> bool:
        """Return whether the response is stored for retries with the same idempotency key.

        A request that changes nothing is executed again, so that readers and previews write nothing to the ledger.
        """
        return not (self.is_query or self.is_preview or self.is_secret)

    @property
    def summary(self) -> str:
        """Return the docstring: a summary line, and a description."""
        return (self.run.__doc__ or "").strip()

    @staticmethod
    def event_count(params: object) -> int:
        """Return the number of events in a request; 1 if its parameters are invalid."""
        return len(getattr(params, "events", ())) or 1

    @property
    def path_parameters(self) -> list[str]:
        """Return the names of the path parameters."""
        return re.findall(r"\{(\w+)\}", self.path)


class OperationRegistry:
    """The operations of one resource, in the order of the source."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self._operations: list[Operation] = []

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._operations)

    def get(
        self, path: str, scope: Scope = Scope.READ, *, is_large: bool = False, media_type: str = JSON_MEDIA_TYPE
    ) -> Callable[[Handler], Handler]:
        """Register the decorated function for GET."""
        return self._register("GET", path, scope, is_large=is_large, media_type=media_type)

    def post(
        self, path: str, scope: Scope = Scope.ADMIN, *, is_secret: bool = False, is_large: bool = False,
        is_preview: bool = False, has_file: bool = False,
    ) -> Callable[[Handler], Handler]:  # fmt: skip
        """Register the decorated function for POST."""
        return self._register(
            "POST", path, scope, is_secret=is_secret, is_large=is_large, is_preview=is_preview, has_file=has_file
        )

    def delete(self, path: str, scope: Scope = Scope.ADMIN) -> Callable[[Handler], Handler]:
        """Register the decorated function for DELETE."""
        return self._register("DELETE", path, scope)

    def record(
        self, path: str, response_type: Any, *, by_session: bool = False, body_format: BodyFormat | None = None
    ) -> Callable[[Handler], Handler]:
        """Register a function that returns a RecordRequest, with the type of the response."""
        return self._register(
            "POST", path, Scope.RECORD, response_type, is_recording=True, by_session=by_session, body_format=body_format
        )

    def _register(
        self, method: Method, path: str, scope: Scope, response_type: Any = None, *, is_recording: bool = False,
        by_session: bool = False, is_secret: bool = False, is_large: bool = False, is_preview: bool = False,
        body_format: BodyFormat | None = None, has_file: bool = False, media_type: str = JSON_MEDIA_TYPE,
    ) -> Callable[[Handler], Handler]:  # fmt: skip
        def decorator(run: Handler) -> Handler:
            hints = get_type_hints(run)
            params_type = get_args(hints["context"])[0]
            returned_type = response_type if is_recording else hints["return"]
            self._operations.append(
                Operation(
                    method, path, scope, run, params_type, returned_type, is_recording, by_session, is_secret, is_large,
                    is_preview, body_format, has_file, media_type,
                )
            )  # fmt: skip
            return run

        return decorator
