"""The lines of a digest from SQL, in all years and with all characters."""

from collections.abc import Iterable
from hashlib import sha256

from tallybook.application import Metering

from ..notation import Clock, moment
from ..properties.histories import LIFTED
from .engines import SqlEngine, stored_events

ALL_TIME = moment("0001-01-01T00:00"), moment("9999-12-31T23:59:59.999999")
TIMES = [
    "0001-01-01T00:00", "0004-02-29T12:00", "1582-10-10T00:00", "1600-02-29T00:00", "1900-02-28T23:59:59.999999",
    "1900-03-01T00:00", "1969-12-31T23:59:59.999999", "1970-01-01T00:00", "2000-02-29T10:00:00.5", "2026-12-31T23:59",
    "9999-12-31T23:59:59.999998",
]  # fmt: skip
TEXTS = ["", "5.0", 'a"b', "\\", "\\u0041", "é/Ω\U0001f600", "\u2028\x7f\x85", *map(chr, range(1, 32))]
VALUES = ["007.50", "-0", "-0.00", "0", "-12.5", "1.500", "9" * 40]


def check(engine: SqlEngine, formula: str, events: Iterable[tuple[str, str]]) -> None:
    """Compare the SHA-256 of the lines of some values and times with the digest of the ledger."""
    with Metering.open("sqlite://", policy=LIFTED, clock=Clock(moment("2026-12-01T00:00"))) as metering:
        metering.meters.configure("calls", formula=formula, customer_key="customer")
        for number, (value, at) in enumerate(events):
            payload = {"customer": "acme", "value": value}
            metering.record("calls", payload, identifier=str(number), timestamp=moment(at))
        engine.load(stored_events(metering))
        document = metering.sql.digest_lines("calls", "acme", *ALL_TIME, dialect=engine.dialect)
        text = "".join(f"{line}\n" for (line,) in engine.run(document.statement))
        assert sha256(text.encode()).hexdigest() == metering.explain("calls", "acme", *ALL_TIME).digest


def test_times_in_all_years(engine: SqlEngine) -> None:
    check(engine, "sum", [("1", at) for at in TIMES])


def test_values_as_plain_decimal_text(engine: SqlEngine) -> None:
    check(engine, "sum", [(value, "2026-11-01T10:00") for value in VALUES])


def test_unique_values_as_json_text(engine: SqlEngine) -> None:
    check(engine, "unique_count", [(text, "2026-11-01T10:00") for text in TEXTS])
