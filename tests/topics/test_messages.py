"""Messages that no broker is needed for."""

from tallybook.application import Metering
from tallybook.application.topics.messages import Message, MessageMapper
from tallybook.application.usage_import.meter_lookup import MeterLookup
from tallybook.application.usage_import.row_mapper import RowFormat
from tallybook.domain.errors import TallybookError

MICROSECONDS = 1_796_046_000_000_000
"""What a producer sends that takes them for milliseconds."""


def test_a_message_from_after_the_year_9999_has_no_time() -> None:
    """It is rejected if it has no time of its own, and holds up no other message."""
    value = b'{"event_name": "tokens", "payload": {"customer": "acme", "tokens": 1}}'
    with Metering.open("sqlite://") as metering:
        metering.meters.configure("tokens", customer_key="customer", value_key="tokens")
        mapper = MessageMapper(RowFormat(), MeterLookup(metering).schedule)
        for milliseconds in (MICROSECONDS, 10**18):
            message = Message("usage", 0, 0, milliseconds, value, {})
            assert message.published_at is None
            error = mapper.map(message)
            assert isinstance(error, TallybookError)
            assert (error.code, error.field) == ("invalid_timestamp", "timestamp")
