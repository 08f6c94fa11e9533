"""Several processes use one ledger: each reads correct totals, and all agree in the end."""

import time
from pathlib import Path

from .conftest import Start, start_together
from .ledgers import (
    batch_sizes,
    delete_read_models,
    ledger_file,
    positions,
    projected_and_replayed_totals,
    read_numbers,
)
from .usage import BATCH_SIZE, VALUE, batch, count_and_sum, open_ledger


def is_monotonic(readings: list[list[int]]) -> bool:
    """Return whether counts never shrink and every sum fits its count."""
    counts = [count for count, _ in readings]
    return counts == sorted(counts) and all(total == VALUE * count for count, total in readings)


def test_one_process_reads_while_another_records(start: Start, url: str) -> None:
    """Counts only grow in both processes, each sum fits its count, and the last totals are equal."""
    batches = 60
    open_ledger(url).close()
    reader = start("read", url, batches * BATCH_SIZE)
    assert reader.stdout is not None
    assert reader.stdout.readline() == "0 0\n"
    writer_output = read_numbers(start("record_and_read", url, "w", batches))
    reader_output = read_numbers(reader)
    assert writer_output == [[BATCH_SIZE * n, VALUE * BATCH_SIZE * n] for n in range(1, batches + 1)]
    assert is_monotonic(reader_output)
    assert reader_output[-1] == [batches * BATCH_SIZE, VALUE * batches * BATCH_SIZE]
    assert len({count for count, _ in reader_output}) > 3


def test_events_acknowledged_by_one_process_are_visible_to_another(start: Start, url: str) -> None:
    """A read is never stale: an event that any process acknowledged before the query is counted."""
    with open_ledger(url) as metering:
        writer = start("record", url, "w", 40)
        assert writer.stdout is not None
        for line in writer.stdout:
            if line != "ready\n":
                assert count_and_sum(metering)[0] >= BATCH_SIZE * (int(line) + 1)
        assert count_and_sum(metering) == (40 * BATCH_SIZE, 40 * BATCH_SIZE * VALUE)


def test_processes_may_create_one_ledger_concurrently(start: Start, url: str, tmp_path: Path) -> None:
    """The first process creates tables, write-ahead log and meter; no process fails and no event is lost."""
    signal, writers = tmp_path / "go", [f"w{number}" for number in range(6)]
    processes = [start("create_together", url, writer, signal) for writer in writers]
    deadline = time.monotonic() + 30
    while not all(Path(f"{signal}.{writer}.ready").exists() for writer in writers):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    signal.touch()
    for process in processes:
        ((count, total),) = read_numbers(process)
        assert count >= BATCH_SIZE
        assert total == VALUE * count
    assert batch_sizes(url) == {f"{writer}/00000": BATCH_SIZE for writer in writers}
    assert positions(url) == list(range(1, 6 * BATCH_SIZE + 2))
    assert projected_and_replayed_totals(url) == ((6 * BATCH_SIZE, 6 * BATCH_SIZE * VALUE),) * 2


def test_concurrent_processes_record_in_one_order(start: Start, url: str) -> None:
    """Three processes write: every batch is complete, and positions have no gap."""
    open_ledger(url).close()
    for process in [start("record", url, f"w{number}", 20) for number in range(3)]:
        assert read_numbers(process) == [[number] for number in range(20)]
    assert positions(url) == list(range(1, 60 * BATCH_SIZE + 2))
    assert set(batch_sizes(url).values()) == {BATCH_SIZE}


def test_concurrent_catch_ups_fold_each_event_once(start: Start, url: str) -> None:
    """They share the pages between them; the rows equal those of a single catch-up."""
    with open_ledger(url) as metering:
        for number in range(20):
            metering.record_many(batch("w", number, 200))
    delete_read_models(url)
    first, second = start("catch_up", url, 40), start("catch_up", url, 60)
    start_together(first, second)
    head = positions(url)[-1]
    outputs = [read_numbers(first), read_numbers(second)]
    assert all(reached[-1] == [head] for reached in outputs)
    assert all(pages == sorted(pages) for pages in outputs)
    assert projected_and_replayed_totals(url) == ((4_000, 4_000 * VALUE),) * 2


def test_read_models_deleted_under_a_running_process_are_rebuilt_by_the_next(start: Start, sqlite_url: str) -> None:
    """With only the read models' file deleted, the running process continues, and others open the ledger and agree."""
    with open_ledger(sqlite_url) as metering:
        metering.record_many(batch("w", 0, 200))
    running = start("answer", sqlite_url)
    assert running.stdin is not None
    assert running.stdout is not None
    assert running.stdout.readline() == f"200 {200 * VALUE}\n"
    Path(f"{ledger_file(sqlite_url)}.read-models").unlink()
    with open_ledger(sqlite_url) as metering:
        metering.record_many(batch("w", 1, 200))
        assert count_and_sum(metering) == (400, 400 * VALUE)
        running.stdin.write("again\n")
        running.stdin.flush()
        assert running.stdout.readline() == f"400 {400 * VALUE}\n"
