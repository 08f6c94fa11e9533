"""Registry of views: functions with their method, path and required scope."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ....domain.access_key import Scope
from ...metering import Metering
from ..http.api_request import RequestTrace
from ..http.errors import ApiError
from ..http.ledgers import LedgerRegistry
from .query_string import Parameters, console_url
from .responses import ViewResult
from .uploads import UploadedFile
from .users import ConsoleUser

Method = Literal["GET", "POST"]


@dataclass(frozen=True, slots=True)
class ViewContext:
    """A request to the console: its user, its parameters, and the file of a form that takes one.

    `trace` is for the access log.
    """

    user: ConsoleUser
    ledgers: LedgerRegistry
    params: Parameters
    path: str
    path_parameters: dict[str, str] = field(default_factory=dict[str, str])
    checkpoint_file: Path | None = None
    file: UploadedFile | None = None
    trace: RequestTrace = field(default_factory=RequestTrace)

    @property
    def metering(self) -> Metering:
        """The ledger that the user sees."""
        return self.user.ledger.metering

    def needs_approval(self, kind: str) -> bool:
        """Return whether a change of a kind has to be proposed."""
        return kind in self.metering.proposals.policy().required

    def url(self, path: str, **params: object) -> str:
        """Return the URL of a page of the console."""
        return console_url(path, **params)


View = Callable[[ViewContext], ViewResult]


@dataclass(frozen=True, slots=True)
class RegisteredView:
    """A view with its path. A POST changes something; it has an idempotency key, and its result is a redirect."""

    method: Method
    path: str
    scope: Scope
    run: View
    is_large: bool = False
    takes_file: bool = False
    is_embedded: bool = False


class ViewRegistry:
    """The views of one screen."""

    def __init__(self) -> None:
        self._views: list[RegisteredView] = []

    def __iter__(self) -> Iterator[RegisteredView]:
        return iter(self._views)

    def get(self, path: str, scope: Scope = Scope.READ, *, is_large: bool = False) -> Callable[[View], View]:
        """Register the decorated function for GET."""
        return self._register("GET", path, scope, is_large=is_large)

    def get_embedded(self, path: str) -> Callable[[View], View]:
        """Register the decorated function for GET with an embed token, instead of a session."""
        return self._register("GET", path, Scope.READ, is_large=True, is_embedded=True)

    def post(self, path: str, scope: Scope, *, takes_file: bool = False) -> Callable[[View], View]:
        """Register the decorated function for POST; with `takes_file` its form may have a file."""
        return self._register("POST", path, scope, takes_file=takes_file)

    def _register(
        self,
        method: Method,
        path: str,
        scope: Scope,
        *,
        is_large: bool = False,
        takes_file: bool = False,
        is_embedded: bool = False,
    ) -> Callable[[View], View]:
        def decorator(run: View) -> View:
            self._views.append(RegisteredView(method, path, scope, run, is_large, takes_file, is_embedded))
            return run

        return decorator


def missing_scope(scope: Scope) -> ApiError:
    """Return the error for a user whose access key has not the scope."""
    return ApiError(
        403, f"Your access key does not have the scope '{scope}', which this needs. Log in with another key.",
        code="more_permissions_required",
    )  # fmt: skip
