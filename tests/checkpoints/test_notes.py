"""Checkpoints, signed notes and keys are compatible with other programs."""

import base64
import os
import shutil
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.application import TallybookError
from tallybook.application.checkpoints import ed25519
from tallybook.application.checkpoints.checkpoint import Checkpoint, Note
from tallybook.application.checkpoints.signing_keys import PrivateKey, PublicKey

# The example of golang.org/x/mod/sumdb/note.
PETER_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_SEED = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
SIGNATURE_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH_KEY = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"


def test_a_note_that_another_program_signed_is_verified() -> None:
    """The example of Go's sumdb is valid for its key, but not for another key or after a change of its text."""
    note = Note.parse(f"{TEXT}\n{SIGNATURE_LINE}")
    assert note.text == TEXT
    assert PublicKey.parse(PETER_KEY).has_signed(note)
    assert not PublicKey.parse(ENOCH_KEY).has_signed(note)
    assert not PublicKey.parse(PETER_KEY).has_signed(Note(TEXT.replace("cryptography", "encryption"), note.signatures))
    assert not PublicKey.parse(PETER_KEY).has_signed(Note(TEXT))


def test_a_note_is_signed_as_another_program_signs_it() -> None:
    """Ed25519 is deterministic: the signature of a key and a text has the same bytes as Go's."""
    seed = base64.b64decode(PETER_SEED)[1:]
    key = PrivateKey("PeterNeumann", ed25519.Ed25519PrivateKey.from_private_bytes(seed))
    assert str(key.public_key) == PETER_KEY
    assert str(key.sign(TEXT)) == f"{TEXT}\n{SIGNATURE_LINE}"


def test_unknown_signatures_are_ignored_and_known_ones_must_be_valid() -> None:
    """A witness may sign too, but every signature of the given key must be valid."""
    signed = Note.parse(f"{TEXT}\n{SIGNATURE_LINE}")
    (ours,) = signed.signatures
    unknown_signatures = Note.parse(f"{TEXT}\n— stranger AAAAAAAA\n").signatures
    assert PublicKey.parse(PETER_KEY).has_signed(Note(TEXT, (*unknown_signatures, ours)))
    invalid_signature = type(ours)(ours.name, ours.key_hash, bytes(64))
    assert not PublicKey.parse(PETER_KEY).has_signed(Note(TEXT, (ours, invalid_signature)))


@pytest.mark.parametrize(
    "note",
    ["", "\n", "\n\n", "a\n", "a\n\nb", "a\n\nb\n", "a\n\n— b\n", "a\n\n— b c\n", "a\n\n— b+c AAAAAAAA\n",
     "a\n\n- b AAAAAAAA\n", "a\n\n— b AAAAAAAA", "a\n\n— b AAAAAA==\n", "a\n\n—  b AAAAAAAA\n", "a\r\n\n", "a\x1b\n\n",
     "a\n\n— b AAAAAAB=\n"],
)  # fmt: skip
def test_an_invalid_note_is_rejected(note: str) -> None:
    """Examples: no blank line, an invalid signature line, a control character, non-canonical base64."""
    with pytest.raises(ValueError, match=r"it|is not"):
        Note.parse(note)


ROOT = base64.b64encode(bytes(range(32))).decode()
CHECKPOINT = f"example.com/usage\n1000\n{ROOT}\ntime 2026-11-22T10:00:00Z\n"


def test_a_checkpoint_has_the_text_of_c2sp() -> None:
    """The lines are origin, size and root, and an extension line with the time. Parsing returns the checkpoint."""
    checkpoint = Checkpoint("example.com/usage", 1000, bytes(range(32)), datetime(2026, 11, 22, 10, tzinfo=UTC))
    assert str(checkpoint) == CHECKPOINT
    assert Checkpoint.parse(CHECKPOINT) == checkpoint


@given(
    st.from_regex(r"[!-*,-~]{1,100}", fullmatch=True),
    st.integers(0, 10**18),
    st.binary(min_size=32, max_size=32),
    st.datetimes(datetime(1000, 1, 1), timezones=st.just(UTC)),
)
def test_every_checkpoint_is_parsed_from_its_text(origin: str, size: int, root: bytes, time: datetime) -> None:
    """A note without signatures contains the text unchanged."""
    checkpoint = Checkpoint(origin, size, root, time.replace(microsecond=0))
    assert Checkpoint.parse(Note.parse(str(Note(str(checkpoint)))).text) == checkpoint


@pytest.mark.parametrize(
    ("old", "new"),
    [("1000", "01000"), ("1000", "-1"), ("1000", "1e3"), ("1000", "\u0661"), ("1000", ""), (ROOT, ROOT[:-4]),
     (ROOT, f"{ROOT} "), (ROOT, ROOT.replace("=", "")), ("Z\n", "\n"), ("Z\n", "Z"), ("time", "Time"), ("Z\n", "Z\n\n"),
     ("10:00:00", "25:00:00"), ("10:00:00", "10:00:00.5"), ("usage", "our usage"), ("usage", "us+age"),
     ("example.com/usage", ""), ("\n", "\r\n"), ("time", "other line\ntime"), ("time 2026-11-22T10:00:00Z\n", "")],
)  # fmt: skip
def test_an_invalid_checkpoint_is_rejected(old: str, new: str) -> None:
    """A checkpoint has exactly one valid encoding."""
    with pytest.raises(ValueError, match=r".+"):
        Checkpoint.parse(CHECKPOINT.replace(old, new))


def error_code(call: object) -> str:
    with pytest.raises(TallybookError) as exc_info:
        call()  # type: ignore[operator]
    return exc_info.value.code


@pytest.mark.parametrize(
    "text",
    ["", "PeterNeumann", PETER_KEY[:-4], PETER_KEY.replace("c74f20a3", "c74f20a4"), PETER_KEY.replace("Peter", "Paul"),
     PETER_KEY.replace("+AR", "+BR"), PETER_KEY.replace("PeterNeumann", "Peter Neumann"),
     f"{PETER_KEY}=", "a+b+c", "x" * 5000],
)  # fmt: skip
def test_an_invalid_public_key_is_rejected(text: str) -> None:
    """A key contains its own hash; keys of other algorithms are rejected."""
    assert error_code(lambda: PublicKey.parse(text)) == "invalid_signing_key"


def test_a_key_file_is_private_and_never_replaced(tmp_path: Path) -> None:
    """The file has mode 600 and reads back as the same key."""
    file = tmp_path / "checkpoint.pem"
    created = PrivateKey.generate(file, "tallybook")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert PrivateKey.load(file, "tallybook").public_key == created.public_key
    assert error_code(lambda: PrivateKey.generate(file, "tallybook")) == "invalid_signing_key"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs OpenSSL")
@pytest.mark.parametrize(("algorithm", "is_ours"), [("ed25519", True), ("x25519", False)])
def test_a_key_generated_by_openssl_is_loaded(tmp_path: Path, algorithm: str, is_ours: bool) -> None:
    """An Ed25519 key is loaded, and a key of another algorithm is rejected."""
    file = tmp_path / "checkpoint.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", algorithm, "-out", file], check=True)
    if is_ours:
        key = PrivateKey.load(file, "tallybook")
        assert key.public_key.has_signed(key.sign(TEXT))
    else:
        assert error_code(lambda: PrivateKey.load(file, "tallybook")) == "invalid_signing_key"


@pytest.mark.parametrize("content", [b"", b"a key", b"\xff", None])
def test_a_file_without_a_key_is_rejected(tmp_path: Path, content: bytes | None) -> None:
    """A missing or empty file, and other content, is neither a private nor a public key."""
    file = tmp_path / "checkpoint.pem"
    if content is not None:
        file.write_bytes(content)
    assert error_code(lambda: PrivateKey.load(file, "tallybook")) == "invalid_signing_key"
    assert error_code(lambda: PublicKey.load(file)) == "invalid_signing_key"


def test_the_error_names_a_missing_extra(tmp_path: Path) -> None:
    """Signatures need the package `cryptography`; unsigned checkpoints do not."""
    program = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from tallybook.application import Metering, TallybookError\n"
        "with Metering.open('sqlite://') as metering:\n"
        "    print(metering.checkpoints.create('file').size, metering.checkpoints.verify('file').difference)\n"
        "    for call in (metering.checkpoints.create, metering.checkpoints.verify):\n"
        "        try: call('file', key=sys.argv[1])\n"
        "        except TallybookError as error: print(error.code, error)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, PETER_KEY],
        cwd=tmp_path, capture_output=True, text=True, check=True, env={**os.environ},
    )  # fmt: skip
    expected = "invalid_signing_key Signatures need an extra: pip install 'tallybook[checkpoints]'."
    assert ran.stdout.splitlines() == ["0 None", expected, expected]
