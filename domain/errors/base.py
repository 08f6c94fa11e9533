"""The base class of all errors, and the six categories by what the caller can do."""

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pydantic_core import CoreSchema


class TallybookError(Exception):
    """The base class of all errors of Tallybook.

    `message` says what was wrong and what to do, `field` and `value` which argument it was.
    """

    code: ClassVar[str] = "tallybook_error"
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, field: str | None = None, value: object = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.value = value

    def __reduce__(self) -> tuple[object, ...]:
        """Return how to copy and unpickle the error, also if a subclass is constructed from other arguments.

        An error that can't be unpickled would stop the thread that reads the results of a `multiprocessing.Pool`.
        """
        return _create, (type(self), self.args), self.__dict__

    def as_dict(self) -> dict[str, str | None]:
        """Return the error as plain data: code, message and field."""
        return {"code": self.code, "message": self.message, "field": self.field}

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: type[Any], _handler: object) -> "CoreSchema":
        """Serialize the error as `as_dict` in results that pydantic or a web framework returns as JSON."""
        from pydantic_core import core_schema  # noqa: PLC0415 - takes 12 ms, and a process that reads a file needs none

        text = core_schema.str_schema()
        fields = core_schema.dict_schema(text, core_schema.nullable_schema(text))
        serialization = core_schema.plain_serializer_function_ser_schema(cls.as_dict, return_schema=fields)
        schema = core_schema.is_instance_schema(cls)
        return core_schema.json_or_python_schema(fields, schema, serialization=serialization)


def _create(error: type[TallybookError], args: tuple[object, ...]) -> TallybookError:
    return error.__new__(error, *args)


class InvalidRequest(TallybookError):
    """The call is wrong and fails each time: correct its arguments."""

    code = "invalid_request"
    http_status = 400


class NotFound(TallybookError):
    """No object has this name, identifier or number."""

    code = "not_found"
    http_status = 404


class Conflict(TallybookError):
    """The call contradicts what is stored or what another process is doing: read the present state first."""

    code = "conflict"
    http_status = 409


class PermissionDenied(TallybookError):
    """The access key or the database user does not have the permission."""

    code = "permission_denied"
    http_status = 403


class Unavailable(TallybookError):
    """The ledger cannot be used at the moment: retry."""

    code = "unavailable"
    http_status = 503


class Corrupted(TallybookError):
    """Stored data is not what Tallybook wrote: an operator has to look."""

    code = "corrupted"
    http_status = 500
