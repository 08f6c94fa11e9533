"""Operations: what can be asked over HTTP, each a function with its method, its path and the scope it needs."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints

import msgspec

from ...domain.access_key import Scope

Method = Literal["GET", "POST", "DELETE"]
Run = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that can be asked.

    `run` takes a Call of what `takes` says, and gives what `gives` says; where `records`, what it gives is a Recording,
    to be recorded together with others'. Where `by_session`, a session lets in, not a key. Where `is_secret`, the
    answer is told once and never kept.
    """

    method: Method
    path: str
    scope: Scope
    run: Run
    takes: type[msgspec.Struct]
    gives: Any
    records: bool = False
    by_session: bool = False
    is_secret: bool = False

    @property
    def name(self) -> str:
        """What it is called."""
        return self.run.__name__

    @property
    def is_v2(self) -> bool:
        """Whether it answers in the shapes of v2."""
        return self.path.startswith("/v2/")

    @property
    def summary(self) -> str:
        """What it does, in its first line, and the rest."""
        return (self.run.__doc__ or "").strip()

    @staticmethod
    def size_of(asked: object) -> int:
        """How many events a request to record has; 1 where it can't be read."""
        return len(getattr(asked, "events", ())) or 1

    @property
    def path_parameters(self) -> list[str]:
        """The names in its path."""
        return re.findall(r"\{(\w+)\}", self.path)


class Routes:
    """The operations on one kind of thing, in the order that they are written in."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self._operations: list[Operation] = []

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._operations)

    def get(self, path: str, scope: Scope = Scope.READ) -> Callable[[Run], Run]:
        """A function that answers a GET."""
        return self._added("GET", path, scope)

    def post(self, path: str, scope: Scope = Scope.ADMIN, *, is_secret: bool = False) -> Callable[[Run], Run]:
        """A function that does something."""
        return self._added("POST", path, scope, is_secret=is_secret)

    def delete(self, path: str, scope: Scope = Scope.ADMIN) -> Callable[[Run], Run]:
        """A function that does away with something."""
        return self._added("DELETE", path, scope)

    def recording(self, path: str, gives: Any, *, by_session: bool = False) -> Callable[[Run], Run]:
        """A function that gives a Recording of what is to be recorded, which is answered with `gives`."""
        return self._added("POST", path, Scope.RECORD, gives, records=True, by_session=by_session)

    def _added(
        self, method: Method, path: str, scope: Scope, gives: Any = None, *, records: bool = False,
        by_session: bool = False, is_secret: bool = False,
    ) -> Callable[[Run], Run]:  # fmt: skip
        def add(run: Run) -> Run:
            hints = get_type_hints(run)
            takes = get_args(hints["call"])[0]
            answer = gives if records else hints["return"]
            self._operations.append(Operation(method, path, scope, run, takes, answer, records, by_session, is_secret))
            return run

        return add
