"""A whole script runs on a ledger in PostgreSQL, as `psql --file` runs it."""

from contextlib import closing

from tallybook.application import Metering

from ..notation import Clock, moment
from ..postgres import Database
from ..properties.histories import LIFTED
from .comparison import decimal_rows, total_rows

NOVEMBER = moment("2026-11-01T00:00"), moment("2026-12-01T00:00")


def test_a_script_on_the_tables_of_a_ledger(postgres: Database) -> None:
    """It reads the stored events in the schema of the ledger, twice in one session, and changes nothing."""
    url = postgres.fresh_url()
    with Metering.open(url, policy=LIFTED, clock=Clock(NOVEMBER[1])) as metering:
        metering.meters.configure("calls", formula="avg", customer_key="customer", event_time_window="day")
        for number, value in enumerate(("1.5", "2", "-3")):
            payload = {"customer": f"c{number % 2}", "value": value}
            metering.record("calls", payload, timestamp=moment(f"2026-11-0{number + 1}T10:00"))
        document = metering.sql.totals("calls", *NOVEMBER, dialect="postgres")
        schema = url.partition("schema=")[2]
        script = document.text.replace("search_path TO tallybook", f"search_path TO {schema}")
        assert script != document.text
        with closing(postgres.connect()) as connection, connection.cursor() as cursor:
            for _ in range(2):
                cursor.execute(script.encode())
                while cursor.nextset():
                    pass
                assert decimal_rows(cursor.fetchall()) == total_rows(metering.totals("calls", *NOVEMBER))
