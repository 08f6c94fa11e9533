"""Totals from the segments of an archive by Spark are those of the ledger.

Spark needs the package pyspark and Java, and takes a minute, so these tests run only with TALLYBOOK_TEST_LONG=1.
"""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tallybook.application import Archive, Metering, TallybookError

from ..notation import Clock, moment
from ..properties.histories import LIFTED
from .test_archive_totals import write_segments

NOVEMBER = moment("2026-11-01T00:00"), moment("2026-12-01T00:00")
DECEMBER = moment("2026-12-01T00:00"), moment("2027-01-01T00:00")
_ITERATIONS = "spark.sql.analyzer.maxIterations"


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start Spark in this process and Java."""
    if "TALLYBOOK_TEST_LONG" not in os.environ:
        pytest.skip("Spark starts for a long run only: set TALLYBOOK_TEST_LONG=1.")
    pytest.importorskip("pyspark", reason="a long run needs the package pyspark, and Java 17")
    from .other_engines import SparkEngine  # noqa: PLC0415 - pyspark isn't installed in every environment

    with closing(SparkEngine(tmp_path_factory.mktemp("spark"), "local[2]")) as engine:
        engine.session.conf.set(_ITERATIONS, "100")
        yield engine.session


@pytest.fixture
def metering() -> Iterator[Metering]:
    """Return a ledger with an average by day and region, a count, and a cancellation."""
    with Metering.open("sqlite://", policy=LIFTED, clock=Clock(DECEMBER[1])) as metering:
        metering.meters.configure(
            "load", formula="avg", event_time_window="day", customer_key="customer", dimension_keys=["region"],
            multiplier="1/3", rounding={"mode": "half_up", "step": "0.01"},
        )  # fmt: skip
        metering.meters.configure("calls", formula="count", customer_key="customer")
        for number in range(40):
            payload = {"customer": f"c-{number % 3}'", "region": "eu" if number % 2 else "us", "value": f"{number}.50"}
            for event_name in ("load", "calls"):
                at = moment(f"2026-11-{number % 28 + 1:02d}T10:00")
                metering.record(event_name, payload, identifier=f"{event_name}-{number}", timestamp=at)
        metering.cancel("load", "load-39")
        yield metering


def test_spark_has_the_totals_of_the_ledger(session: Any, metering: Metering, tmp_path: Path) -> None:
    """From several segments, as of two positions, and with groups. The session is as before."""
    folder = tmp_path / "an archive"
    write_segments(folder, metering, 16)
    archive = Archive.open(folder)
    for meter, group_by in (("load", ["region"]), ("load", []), ("calls", [])):
        for as_of in (None, 50):
            totals = archive.totals_on(session, meter, *NOVEMBER, as_of=as_of, group_by=group_by)
            assert totals == metering.totals(meter, *NOVEMBER, as_of=as_of, group_by=group_by)
            assert len(totals) == 3
    assert list(archive.totals_on(session, "calls", *DECEMBER)) == []
    assert session.conf.get(_ITERATIONS) == "100"
    assert not session.catalog.tableExists("ledger_events")


def test_errors_of_spark(session: Any, metering: Metering, tmp_path: Path) -> None:
    """A missing segment and an unknown meter."""
    files = write_segments(tmp_path, metering, 16)
    archive = Archive.open(tmp_path)
    with pytest.raises(TallybookError, match="call"):
        archive.totals_on(session, "call", *NOVEMBER)
    Path(files[1]).unlink()
    with pytest.raises(TallybookError, match="can't be read as segments"):
        archive.totals_on(session, "calls", *NOVEMBER)


def test_another_object_is_no_session(metering: Metering, tmp_path: Path) -> None:
    """The error names the argument."""
    write_segments(tmp_path, metering, 128)
    with pytest.raises(TallybookError, match="must be a SparkSession") as caught:
        Archive.open(tmp_path).totals_on(object(), "calls", *NOVEMBER)  # pyright: ignore[reportArgumentType]
    assert caught.value.field == "spark_session"
