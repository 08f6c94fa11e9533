"""Several processes on one ledger: each sees what is right, and all the same in the end."""

import time
from pathlib import Path

from .conftest import Start, go
from .ledgers import batch_sizes, delete_views, file_of, finished, positions, read_and_fresh_figures
from .usage import BATCH, VALUE, batch, figures, opened


def monotone(told: list[list[int]]) -> bool:
    """Whether counts never shrink and every sum fits its count."""
    counts = [count for count, _ in told]
    return counts == sorted(counts) and all(total == VALUE * count for count, total in told)


def test_one_process_reads_while_another_records(start: Start, url: str) -> None:
    """Both see figures that only grow, each sum that of its count, and at the end the same."""
    batches = 60
    opened(url).close()
    reader = start("read", url, batches * BATCH)
    assert reader.stdout is not None
    assert reader.stdout.readline() == "0 0\n"
    told_by_writer = finished(start("record_and_read", url, "w", batches))
    told_by_reader = finished(reader)
    assert told_by_writer == [[BATCH * n, VALUE * BATCH * n] for n in range(1, batches + 1)]
    assert monotone(told_by_reader)
    assert told_by_reader[-1] == [batches * BATCH, VALUE * batches * BATCH]
    assert len({count for count, _ in told_by_reader}) > 3


def test_what_one_process_has_acknowledged_is_in_the_next_answer_of_another(start: Start, url: str) -> None:
    """A read is never stale: an event acknowledged before the question is counted, whoever recorded it."""
    with opened(url) as metering:
        writer = start("record", url, "w", 40)
        assert writer.stdout is not None
        for line in writer.stdout:
            if line != "ready\n":
                assert figures(metering)[0] >= BATCH * (int(line) + 1)
        assert figures(metering) == (40 * BATCH, 40 * BATCH * VALUE)


def test_processes_may_begin_one_ledger_at_the_same_moment(start: Start, url: str, tmp_path: Path) -> None:
    """Tables, write-ahead log and meter are made once, by whoever is first; nobody fails and nothing is lost."""
    signal, writers = tmp_path / "go", [f"w{number}" for number in range(6)]
    processes = [start("begin_together", url, writer, signal) for writer in writers]
    deadline = time.monotonic() + 30
    while not all(Path(f"{signal}.{writer}.ready").exists() for writer in writers):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    signal.touch()
    for process in processes:
        ((count, total),) = finished(process)
        assert count >= BATCH
        assert total == VALUE * count
    assert batch_sizes(url) == {f"{writer}/00000": BATCH for writer in writers}
    assert positions(url) == list(range(1, 6 * BATCH + 2))
    assert read_and_fresh_figures(url) == ((6 * BATCH, 6 * BATCH * VALUE),) * 2


def test_processes_that_record_at_once_share_one_order(start: Start, url: str) -> None:
    """Three writers: every batch is whole, and positions have no gap."""
    opened(url).close()
    for process in [start("record", url, f"w{number}", 20) for number in range(3)]:
        assert finished(process) == [[number] for number in range(20)]
    assert positions(url) == list(range(1, 60 * BATCH + 2))
    assert set(batch_sizes(url).values()) == {BATCH}


def test_two_processes_that_catch_up_at_once_fold_each_event_once(start: Start, url: str) -> None:
    """They share the pages between them; what both made is what one alone makes."""
    with opened(url) as metering:
        for number in range(20):
            metering.record_many(batch("w", number, 200))
    delete_views(url)
    first, second = start("catch_up", url, 40), start("catch_up", url, 60)
    go(first, second)
    head = positions(url)[-1]
    told = [finished(first), finished(second)]
    assert all(reached[-1] == [head] for reached in told)
    assert all(pages == sorted(pages) for pages in told)
    assert read_and_fresh_figures(url) == ((4_000, 4_000 * VALUE),) * 2


def test_read_models_deleted_under_a_running_process_are_made_anew_by_the_next(start: Start, sqlite_url: str) -> None:
    """With only the `.views` file deleted, the running process goes on, and others open the ledger and agree."""
    with opened(sqlite_url) as metering:
        metering.record_many(batch("w", 0, 200))
    running = start("answer", sqlite_url)
    assert running.stdin is not None
    assert running.stdout is not None
    assert running.stdout.readline() == f"200 {200 * VALUE}\n"
    Path(f"{file_of(sqlite_url)}.views").unlink()
    with opened(sqlite_url) as metering:
        metering.record_many(batch("w", 1, 200))
        assert figures(metering) == (400, 400 * VALUE)
        running.stdin.write("again\n")
        running.stdin.flush()
        assert running.stdout.readline() == f"400 {400 * VALUE}\n"
