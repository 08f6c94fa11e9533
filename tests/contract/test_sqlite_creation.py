"""Several programs that create one ledger in SQLite at the same moment."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from tallybook.application import Metering


def test_two_programs_that_create_a_ledger_at_once_share_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program finds no file, and another one creates the ledger before the first does: what it stored is not lost."""
    file, exists = tmp_path / "usage.db", Path.exists
    url = f"sqlite:///{file}"
    with ExitStack() as stack:
        others: list[Metering] = []

        def exists_before_the_other_program(path: Path) -> bool:
            found = exists(path)
            if path == file:
                monkeypatch.setattr(Path, "exists", exists)
                others.append(stack.enter_context(Metering.open(url)))
                others[0].meters.configure("tokens")
            return found

        monkeypatch.setattr(Path, "exists", exists_before_the_other_program)
        metering = stack.enter_context(Metering.open(url))
        (other,) = others
        assert [meter.event_name for meter in metering.meters.list()] == ["tokens"]
        assert other.record("tokens", {"stripe_customer_id": "acme", "value": "1"}).position == 2
