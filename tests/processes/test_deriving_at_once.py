"""One process derives a meter while others record events that it can't read: they are rejected, or it isn't derived."""

from tallybook.domain.errors import IncompatibleRules

from .conftest import Start, start_together
from .ledgers import read_numbers
from .usage import BATCH_SIZE, END, START, batch, open_ledger


def test_no_event_is_recorded_that_a_derived_meter_can_not_read(start: Start, url: str) -> None:
    """Either all of the events are counted by both meters, or the derived meter doesn't exist."""
    with open_ledger(url) as metering:
        sized = [{**event, "payload": {"customer": "acme", "value": "3", "size": "2"}} for event in batch("sized", 0)]
        metering.record_many(sized, strict=True)
        recorders = [start("record_sizes", url, writer, 6) for writer in ("a", "b")]
        start_together(*recorders)
        try:
            metering.meters.configure("sizes", source="tokens", customer_key="customer", value_key="size")
            is_derived = True
        except IncompatibleRules:
            is_derived = False
        accepted = sum(number for recorder in recorders for (number,) in read_numbers(recorder))
        count = metering.total("tokens", "acme", START, END).count
        assert count == BATCH_SIZE + accepted
        assert is_derived == (metering.meters.get("tokens").derived_meters == ("sizes",))
        if is_derived:
            total = metering.total("sizes", "acme", START, END)
            assert (total.count, total.value) == (count, 2 * count)
        assert metering.verify().is_equal
