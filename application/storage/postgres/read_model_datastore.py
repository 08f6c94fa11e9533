"""The schema of the read models, which another role than the ledger's owner may own."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import TypeVar

from psycopg.errors import DivisionByZero
from psycopg.sql import SQL

from ....domain.errors import DatabasePermissionDenied
from .connection import PostgresDatastore, Prepare, TransactionMode
from .errors import RejectedData

Result = TypeVar("Result")
# An owner who is a member of the current role, as a superuser is of every role, gains nothing from its rights.
_SELECT_UNTRUSTED_OWNER = (
    "SELECT pg_get_userbyid(nspowner), current_user FROM pg_namespace"
    " WHERE nspname = {} AND NOT pg_has_role(nspowner, current_user, 'MEMBER')"
)
_FAIL_IF_UNTRUSTED = f"SELECT 1 / CASE WHEN EXISTS ({_SELECT_UNTRUSTED_OWNER}) THEN 0 ELSE 1 END"


class ReadModelDatastore(PostgresDatastore):
    """A schema that is written to only by its owner, or by a role whose rights the owner has anyway.

    The owner of a schema can replace a table by a view that calls a function, which then has the rights of the role
    that uses the view. In a read transaction, which is read-only, such a function can change nothing.
    """

    @cached_property
    def _fail_if_untrusted(self) -> str:
        return SQL(_FAIL_IF_UNTRUSTED).format(self.schema).as_string()

    @contextmanager
    def prepared_transaction(
        self,
        mode: TransactionMode,
        prepare: Prepare[Result],
        begin_sql: str = "",
        end_sql: str = "",
    ) -> Generator[Result]:
        """Start a transaction and yield the result of `prepare`. Raise DatabasePermissionDenied before a write."""
        if mode == "write":  # in the same round trip as BEGIN, before anything that may call a function of the owner
            begin_sql = f"{self._fail_if_untrusted}; {begin_sql}"
        with ExitStack() as transaction:
            try:
                result = transaction.enter_context(super().prepared_transaction(mode, prepare, begin_sql, end_sql))
            except RejectedData as error:
                if isinstance(error.__cause__, DivisionByZero):
                    self._require_trusted_owner()
                raise
            yield result

    def _require_trusted_owner(self) -> None:
        for owner, user in self.select(SQL(_SELECT_UNTRUSTED_OWNER).format(self.schema)):
            raise DatabasePermissionDenied(
                f"PostgreSQL on {self.location}: the schema {self.schema!r} belongs to the role {owner!r}, and its "
                f"functions would run with the rights of {user!r}. Only {owner!r} may write to it; connect as a user "
                "with this role (ALTER ROLE … SET role)."
            )
