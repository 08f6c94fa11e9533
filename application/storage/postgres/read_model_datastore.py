"""The schema of the read models, which another role than the ledger's owner may own."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from psycopg import Connection

from ....domain.errors import DatabasePermissionDenied
from .connection import PostgresDatastore, TransactionMode

Result = TypeVar("Result")
# An owner who is a member of the current role, as a superuser is of every role, gains nothing from its rights.
_SELECT_UNTRUSTED_OWNER = (
    "SELECT pg_get_userbyid(nspowner), current_user FROM pg_namespace"
    " WHERE nspname = %s AND NOT pg_has_role(nspowner, current_user, 'MEMBER')"
)


class ReadModelDatastore(PostgresDatastore):
    """A schema that is written to only by its owner, or by a role whose rights the owner has anyway.

    The owner of a schema can replace a table by a view that calls a function, which then has the rights of the role
    that uses the view. In a read transaction, which is read-only, such a function can change nothing.
    """

    @contextmanager
    def prepared_transaction(
        self,
        mode: TransactionMode,
        prepare: Callable[[Connection[Any]], Result],
        begin_sql: str = "",
        end_sql: str = "",
    ) -> Generator[Result]:
        """Start a transaction and yield the result of `prepare`. Raise DatabasePermissionDenied before a write."""

        def check_and_prepare(connection: Connection[Any]) -> Result:
            if mode == "write":
                self._require_trusted_owner(connection)
            return prepare(connection)

        with super().prepared_transaction(mode, check_and_prepare, begin_sql, end_sql) as result:
            yield result

    def _require_trusted_owner(self, connection: Connection[Any]) -> None:
        row = connection.execute(_SELECT_UNTRUSTED_OWNER, (self.schema,)).fetchone()
        if row is not None:
            owner, user = row
            raise DatabasePermissionDenied(
                f"PostgreSQL on {self.location}: the schema {self.schema!r} belongs to the role {owner!r}, and its "
                f"functions would run with the rights of {user!r}. Only {owner!r} may write to it; connect as a user "
                "with this role (ALTER ROLE … SET role)."
            )
