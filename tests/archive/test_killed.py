"""An export that is killed by SIGKILL at any moment: no row is missing or double after the next one.

TALLYBOOK_TEST_KILL_MOMENTS sets the number of kills, which is 3 by default.
"""

import os
import random
import sys
import time
from pathlib import Path
from subprocess import PIPE, Popen

from tallybook.application import Archive

from .ledgers import archived_rows, export, record, rows_of_all_files, stored_rows

KILL_COUNT = int(os.environ.get("TALLYBOOK_TEST_KILL_MOMENTS", "3"))
EVENTS = 6_000
BLOCK_SIZE = 256
EXPORT = """
import sys
from tests.archive.ledgers import export
print("ready", flush=True)
export(sys.argv[1], sys.argv[2], int(sys.argv[3]))
"""


def test_a_killed_export_is_continued(url: str, tmp_path: Path) -> None:
    """All kills hit the same archive, one after the other, until it is complete; then a new one is begun."""
    record(url, 1, EVENTS)
    rows = stored_rows(url)
    rng = random.Random(0)
    folder, archived_before = tmp_path / "archive-0", 0
    for number in range(KILL_COUNT):
        arguments = ["-c", EXPORT, url, str(folder), str(BLOCK_SIZE)]
        with Popen([sys.executable, *arguments], stdout=PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.random() * 0.3)  # the kill comes at any moment
            process.kill()
        if not (folder / "manifest.jsonl").exists():
            continue
        archived = archived_rows(folder)
        assert archived == rows[: len(archived)]
        assert len(archived) >= archived_before
        archived_before = len(archived)
        assert Archive.open(folder).verify().differences == ()
        if archived_before == len(rows):
            folder, archived_before = tmp_path / f"archive-{number + 1}", 0
    export(url, folder, BLOCK_SIZE)
    assert rows_of_all_files(folder) == archived_rows(folder) == rows
    verification = Archive.open(folder).verify()
    assert (verification.differences, verification.warnings) == ((), ())
