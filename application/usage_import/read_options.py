"""How rows are read, from options as they are typed on the command line or in a setting."""

from collections.abc import Iterable

from ...domain.calendar import get_timezone
from ..validation import require_choice
from .columns import ColumnMapping
from .row_mapper import RowFormat
from .timestamps import TimestampFormat, TimestampReader
from .values import NumberFormat


def row_format_of(
    *,
    event_name: str | None = None,
    timestamp_column: str = "timestamp",
    timestamp_format: str = "auto",
    date_format: str | None = None,
    timezone: str | None = None,
    value_column: str | None = None,
    decimal: str | None = None,
    thousands: str | None = None,
    customer: str | None = None,
    customer_column: str | None = None,
    identifier_column: str | None = None,
    identifier_prefix: str | None = None,
    payload_columns: Iterable[str] = (),
) -> RowFormat:
    """Return how rows are read. The arguments have the names of the options of the command `import`.

    Each of the `payload_columns` is COLUMN or COLUMN=KEY. Raise InvalidParameter or UnknownTimezone.
    """
    columns = ColumnMapping(
        event_name=event_name,
        timestamp=timestamp_column,
        identifier=identifier_column,
        value=value_column,
        customer=customer_column,
        customer_name=customer,
        payload={column: key or column for column, _, key in (text.partition("=") for text in payload_columns)},
        identifier_prefix=identifier_prefix or "",
    )
    timestamps = TimestampReader(
        require_choice(timestamp_format, "timestamp_format", TimestampFormat),
        date_format=date_format,
        timezone=None if timezone is None else get_timezone(timezone),
    )
    return RowFormat(columns, NumberFormat(decimal, thousands), timestamps)


def delimiter_of(text: str | None) -> str | None:
    """Return a delimiter as it is typed; a tab may be typed as its name or its escape."""
    return "\t" if text in ("tab", "\\t") else text
