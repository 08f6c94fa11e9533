"""An import of objects that is killed by SIGKILL at any moment: no row is missing or double after the next one.

TALLYBOOK_TEST_KILL_MOMENTS sets the number of kills for each store, which is 2 by default.
"""

import os
import random
import sys
import time
from pathlib import Path
from subprocess import PIPE, Popen

from tallybook.application import Metering
from tallybook.application.object_import.importer import ObjectImporter
from tallybook.application.object_import.results import ObjectStatus

from ..contract.persistent_stores import PersistentStore
from .usage_objects import FORMATS, NOW, configure, counted, put, rows

KILL_COUNT = int(os.environ.get("TALLYBOOK_TEST_KILL_MOMENTS", "2"))
ROWS = 6_000
MAX_SECONDS = 1.0
PROGRAM = """
import sys
from tests.object_import.usage_objects import NOW
from tallybook.application import Metering
from tallybook.application.object_import.importer import ObjectImporter
with Metering.open(sys.argv[1], clock=lambda: NOW) as metering:
    print("ready", flush=True)
    ObjectImporter(metering, sys.argv[2]).run()
"""


def test_a_killed_import_goes_on(persistent_store: PersistentStore, folder: Path) -> None:
    """New objects arrive all the time, until there were enough kills. Every row has its import and its report."""
    rng = random.Random(0)
    with Metering.open(persistent_store.url, clock=lambda: NOW) as metering:
        configure(metering)
        names, accepted = list(FORMATS), 0
        for number in range(KILL_COUNT):
            name = names[number % len(names)]
            identifiers = (f"r{number}-{row}" for row in range(ROWS))
            put(folder, f"{number}-{name}", FORMATS[name](rows(*identifiers)))
            accepted += ROWS
            arguments = ["-c", PROGRAM, persistent_store.url, f"file://{folder}"]
            with Popen([sys.executable, *arguments], stdout=PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                time.sleep(rng.random() * MAX_SECONDS)  # the kill comes at any moment
                process.kill()
            count, total = counted(metering)
            assert count == total <= accepted
        importer = ObjectImporter(metering, f"file://{folder}")
        importer.run()
        assert counted(metering) == (accepted, accepted)
        reports = importer.reports()
        assert {(report.status, report.rows, report.accepted) for report in reports} == {
            (ObjectStatus.IMPORTED, ROWS, ROWS)
        }
        runs = {run.run_id: run for run in metering.imports.list()}
        assert len(runs) == len(reports) == KILL_COUNT
        assert [runs[str(report.run_id)].recorded for report in reports] == [ROWS] * KILL_COUNT
        assert all(run.finished_at is not None and run.rows == ROWS for run in runs.values())
