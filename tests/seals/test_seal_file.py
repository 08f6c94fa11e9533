"""The file of seals: appended to, and what becomes of damage and crashes."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from threading import Event
from time import sleep
from typing import Any, cast

import pytest
from tallybook.application import Metering, TallybookError
from tallybook.application.seals import seal_file
from tallybook.application.seals.keys import PrivateKey
from tallybook.application.seals.seal_file import SealFile

from .ledgers import Sealed

GOLDEN = """\
tallybook
10
Urs9GDtb4519Qj//hPOrZ8nRgUpP06pErjIcNz8dH6A=
time 2026-11-22T10:00:00Z


tallybook
20
2ckI8yXVmVh/Q5OgvM5S+8j1Vlgdk9Tc62uSR3v+vdw=
time 2026-11-22T10:00:00Z


"""


def code_of(sealed: Sealed) -> tuple[str, str | None]:
    with sealed.metering() as metering, pytest.raises(TallybookError) as refused:
        metering.verify_seals(sealed.seals)
    return refused.value.code, refused.value.field


def test_a_seal_says_how_many_events_their_root_and_when(sealed: Sealed) -> None:
    """One after the other in the file, each ended by a blank line."""
    first, second, rest = sealed.seals.read_text().split("\n\n\n")
    assert first.split("\n")[::3] == ["tallybook", "time 2026-11-22T10:00:00Z"]
    assert [one.split("\n")[1] for one in (first, second)] == ["10", "20"]
    assert rest == ""


@pytest.mark.parametrize("is_signed", [False, True])
def test_a_seal_that_was_never_finished_is_told_and_replaced(sealed: Sealed, tmp_path: Path, is_signed: bool) -> None:
    """Cut off after any byte of the last one, the seals before it are whole; the next seal takes its place."""
    key = tmp_path / "seal.pem" if is_signed else None
    seals = sealed.seals.with_name("cut.seals")
    with sealed.metering() as metering:
        if key is not None:
            PrivateKey.make(key, "tallybook")
        for _ in range(2):
            metering.seal(seals, key=key)
        whole = seals.read_bytes()
        start = len(whole) // 2
        for cut in range(start + 1, len(whole)):
            seals.write_bytes(whole[:cut])
            found = metering.verify_seals(seals)
            assert (len(found.seals), found.difference) == (1, None)
            assert "never finished" in found.notes[0]
            if cut % 16 == 0:
                metering.seal(seals, key=key)
                assert seals.read_bytes() == whole


@pytest.mark.parametrize(
    ("old", "new"),
    [("\n20\n", "\n0x14\n"), ("\n20\n", "\n9\n"), ("\n10\n", "\n21\n"), ("tallybook\n20", "other\n20"),
     ("Z\n\n\ntally", "Z\n\ntally"), ("Z\n\n\ntally", "Z\n\n\n\ntally"), ("Z\n\n\ntally", "Z\ntally"), ("=\n", "\n"),
     ("tallybook\n10", "\ntallybook\n10"), ("Z\n\n\ntally", "Z\n\n\n# a comment\n\n\ntally"), ("time", "\xe9")],
)  # fmt: skip
def test_a_damaged_file_of_seals_is_refused(sealed: Sealed, old: str, new: str) -> None:
    """In the middle nothing can be unfinished; and it is never appended to."""
    text = sealed.seals.read_text()
    assert old in text
    damaged = text.replace(old, new).encode("latin-1")
    sealed.seals.write_bytes(damaged)
    assert code_of(sealed) == ("invalid_seal_file", "file")
    with pytest.raises(TallybookError):
        sealed.seal()
    assert sealed.seals.read_bytes() == damaged


@pytest.mark.parametrize("content", [b"hello\n", b"hello", b"\0" * 4096, b"\n\n\n", b"# seals\n\n\n\n"])
def test_another_file_is_never_written_to(sealed: Sealed, content: bytes) -> None:
    """A slip in the name of the file must not cost it."""
    sealed.seals.write_bytes(content)
    assert code_of(sealed) == ("invalid_seal_file", "file")
    with pytest.raises(TallybookError):
        sealed.seal()
    assert sealed.seals.read_bytes() == content


def test_the_ledger_itself_is_never_taken_for_seals(sealed: Sealed) -> None:
    """Neither to seal in nor to verify by."""
    with sealed.metering() as metering, pytest.raises(TallybookError) as refused:
        metering.seal(sealed.ledger)
    assert refused.value.code == "invalid_seal_file"


def test_a_file_that_is_not_there_or_has_no_seal_is_refused(sealed: Sealed) -> None:
    """To verify by; to seal, it is begun."""
    sealed.seals.write_bytes(b"")
    assert code_of(sealed) == ("invalid_seal_file", "file")
    sealed.seals.unlink()
    assert code_of(sealed) == ("invalid_seal_file", "file")
    sealed.seals = sealed.seals.parent / "no" / "folder"
    assert code_of(sealed) == ("invalid_seal_file", "file")
    with pytest.raises(TallybookError):
        sealed.seal()


def test_a_seal_whose_root_was_changed_is_told_from_a_changed_ledger(sealed: Sealed) -> None:
    """Where a later seal matches, the ledger is as it was; where none does, the seal may be what was changed."""
    text = sealed.seals.read_text()
    roots = text.split("\n")[2::6]
    forged = text.replace(roots[0], f"{'A' * 43}=")
    sealed.seals.write_text(forged)
    assert code_of(sealed) == ("invalid_seal_file", "file")
    for old, new, last in ((roots[1], f"{'A' * 43}=", 20), ("\n20\n", "\n18\n", 18)):
        sealed.seals.write_text(text.replace(old, new))
        with sealed.metering() as metering:
            found = metering.verify_seals(sealed.seals).difference
        assert found is not None
        assert (found.first, found.last) == (11, last)
        assert f"The seal of {last} events doesn't match, but the ledger agrees with" in found.message
        assert "missing" not in found.message
    sealed.leaves.unlink()
    with sealed.metering() as metering:
        found = metering.verify_seals(sealed.seals).difference
    assert found is not None
    assert "unless the seal of 18 events was changed" in found.message


def test_sealing_again_without_new_events_says_that_nothing_changed(sealed: Sealed) -> None:
    """Each seal is another checkpoint, of as many events."""
    for _ in range(2):
        sealed.seal()
    sizes = [one.checkpoint.size for one in SealFile(sealed.seals).read().all]
    assert sizes == [10, 20, 25, 25]


def test_an_empty_ledger_can_be_sealed(unsealed: Sealed) -> None:
    """Of no event at all; what comes later is then not held by it."""
    with unsealed.metering() as metering:
        empty = unsealed.seals.with_name("empty.seals")
        unsealed.tamper("DELETE FROM stored_events")
        assert metering.seal(empty).size == 0
        assert metering.verify_seals(empty).difference is None
        unsealed.tamper("INSERT INTO stored_events VALUES (0, 'event/new', 1, 'UsageRecorded', x'00')")
        found = metering.verify_seals(empty).difference
        assert found is not None
        assert found.first == 0


def test_all_seals_of_a_file_are_signed_by_one_key_or_none_is(sealed: Sealed, tmp_path: Path) -> None:
    """Verified by a key, a seal without its signature is refused, and so is one by another key."""
    ours, theirs = tmp_path / "ours.pem", tmp_path / "theirs.pem"
    public = str(PrivateKey.make(ours, "tallybook").public)
    PrivateKey.make(theirs, "tallybook")
    signed = sealed.seals.with_name("signed.seals")
    with sealed.metering() as metering:
        assert metering.seal(signed, key=ours).signed_by == ("tallybook",)
        assert metering.verify_seals(signed, key=public).difference is None
        for call in (
            lambda: metering.seal(signed),
            lambda: metering.seal(signed, key=theirs),
            lambda: metering.seal(sealed.seals, key=ours),
            lambda: metering.verify_seals(sealed.seals, key=public),
            lambda: metering.seal(signed, key=ours, name="other"),
            lambda: metering.seal(sealed.seals.with_name("new"), name="two words"),
        ):
            with pytest.raises(TallybookError):
                call()
        unsigned = metering.seal(sealed.seals)
        assert unsigned.signed_by == ()
        text = signed.read_text()
        signed.write_text(text + sealed.seals.read_text().split("\n\n\n")[2] + "\n\n\n")
        with pytest.raises(TallybookError, match="seal 2 is not signed by"):
            metering.verify_seals(signed, key=public)
        signed.write_text(text.replace("10:00:00Z", "10:00:01Z"))
        with pytest.raises(TallybookError, match="seal 1 is not signed by"):
            metering.verify_seals(signed, key=public)


@pytest.mark.parametrize("file", [None, 3, b"usage.seals", "a\0b", "\ud800"])
def test_what_is_no_path_is_refused(unsealed: Sealed, file: object) -> None:
    """As data, like any other argument that is wrong."""
    path, key = cast(Any, file), cast(Any, 3 if file is None else file)
    with unsealed.metering() as metering:
        for call in (
            lambda: metering.seal(path),
            lambda: metering.verify_seals(path),
            lambda: metering.prove("req-2", path),
            lambda: metering.prove_growth(path, 1),
        ):
            with pytest.raises(TallybookError) as refused:
                call()
            assert (refused.value.code, refused.value.field) == ("parameter_invalid", "file")
        with pytest.raises(TallybookError) as refused:
            metering.seal(unsealed.seals, key=key)
        assert (refused.value.code, refused.value.field) == ("parameter_invalid", "key")
        assert list(unsealed.seals.parent.iterdir()) == []
        unsealed.seal()
        with pytest.raises(TallybookError) as refused:
            metering.verify_seals(unsealed.seals, key=key)
        assert (refused.value.code, refused.value.field) == ("invalid_key", "key")


@pytest.mark.parametrize(
    "wrong", [{"key": "missing.pem"}, {"key": ""}, {"name": "two words"}, {"name": ""}, {"name": 3}, {"name": []}]
)
def test_a_first_seal_that_is_refused_leaves_nothing(unsealed: Sealed, wrong: dict[str, Any]) -> None:
    """Else verifying by it would tell of a file without a seal. One that was there stays."""
    for before in ([], [unsealed.seals]):
        for file in before:
            file.touch()
        with unsealed.metering() as metering, pytest.raises(TallybookError):
            metering.seal(unsealed.seals, **wrong)
        assert list(unsealed.seals.parent.iterdir()) == before


def test_who_waits_for_a_first_seal_that_is_refused_begins_the_file_anew(unsealed: Sealed) -> None:
    """What was waited for is no longer there, and a seal appended to it would be lost."""
    waiting = Event()

    def clock() -> datetime:
        waiting.wait(10)
        sleep(0.1)
        raise OverflowError

    with Metering.open(unsealed.url, clock=clock) as refused, unsealed.metering() as metering:
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(refused.seal, unsealed.seals)
            while not unsealed.seals.exists():
                sleep(0.001)
            second = pool.submit(metering.seal, unsealed.seals)
            waiting.set()
            assert isinstance(first.exception(), OverflowError)
            assert second.result().size == 1
        assert metering.verify_seals(unsealed.seals).agreeing == 1


def test_a_file_that_somebody_else_sealed_first_is_left_to_them(
    unsealed: Sealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun here, but locked by another before: their seal stays, whatever is refused here."""
    sync_folder = seal_file._sync_folder  # pyright: ignore[reportPrivateUsage]

    def overtaken(folder: Path) -> None:
        monkeypatch.setattr(seal_file, "_sync_folder", sync_folder)
        unsealed.seal()

    monkeypatch.setattr(seal_file, "_sync_folder", overtaken)
    with Metering.open(unsealed.url) as metering, pytest.raises(TallybookError):
        metering.seal(unsealed.seals, name="another name")
    with unsealed.metering() as metering:
        assert metering.verify_seals(unsealed.seals).agreeing == 1


def test_leaf_hashes_from_a_crash_before_the_seal_do_no_harm(sealed: Sealed) -> None:
    """Hashes without a seal, and half of one, are written over."""
    whole = sealed.leaves.read_bytes()
    sealed.leaves.write_bytes(whole + b"half of one")
    sealed.seal()
    with sealed.metering() as metering:
        assert metering.verify_seals(sealed.seals).notes == ()
        assert len(sealed.leaves.read_bytes()) == 25 * 32
    sealed.tamper("UPDATE stored_events SET topic = 'Other' WHERE position = 24")
    with sealed.metering() as metering:
        found = metering.verify_seals(sealed.seals)
    assert found.difference is not None
    assert found.difference.first == found.difference.last == 24


def test_a_ledger_has_the_root_that_it_always_had(sealed: Sealed) -> None:
    """What is hashed of an event, and how a seal is written, is a format: seals of years ago must still match."""
    assert sealed.seals.read_text() == GOLDEN


@pytest.mark.parametrize(
    ("mark", "line_end", "told"),
    [(b"", b"\r\n", "carriage return"), (b"\xef\xbb\xbf", b"\n", "byte order mark"),
     (b"\xef\xbb\xbf", b"\r\n", "byte order mark at its start and a carriage return")],
)  # fmt: skip
def test_what_an_editor_added_is_told_as_what_it_is(sealed: Sealed, mark: bytes, line_end: bytes, told: str) -> None:
    """Not as a file without seals; nor is it sealed in, as seals have one way to be written."""
    edited = mark + sealed.seals.read_bytes().replace(b"\n", line_end)
    checkpoint = edited.split(line_end * 3)[0] + line_end * 2
    sealed.seals.write_bytes(edited)
    with sealed.metering() as metering:
        for call in (lambda: metering.verify_seals(sealed.seals), lambda: metering.seal(sealed.seals)):
            with pytest.raises(TallybookError, match=told) as refused:
                call()
            assert refused.value.code == "invalid_seal_file"
    assert sealed.seals.read_bytes() == edited
    sealed.seals.write_bytes(checkpoint)
    with pytest.raises(TallybookError, match=told):
        SealFile(sealed.seals).read_held()


def test_two_that_seal_at_once_seal_one_after_the_other(sealed: Sealed) -> None:
    """No seal is lost, and none is written into another."""
    with sealed.metering() as metering, ThreadPoolExecutor(4) as pool:
        sealing = [pool.submit(metering.seal, sealed.seals) for _ in range(12)]
        sizes = [one.result().size for one in sealing]
        found = metering.verify_seals(sealed.seals)
    assert sizes == [25] * 12
    assert (len(found.seals), found.agreeing, found.notes) == (14, 14, ())
