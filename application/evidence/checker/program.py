"""The program: compares all files with their list, the events with the checkpoint, and the totals with the events."""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import sys
import zipfile
from base64 import b64decode
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, List

from .closings import check_closing
from .counting import Row, billable_of, rows_behind, set_contributions, stated
from .signatures import Wrong, require_signature
from .stored_events import EVENTS, HASHES, Ledger, read_events

LIST, LIST_SIGNATURE, KEY, CHECKPOINT, TOTALS = (
    "SHA256SUMS", "SHA256SUMS.signature", "public-key.txt", "checkpoint.txt", "totals.json",
)  # fmt: skip


class Pack:
    """The files of a folder or of a zip file."""

    def __init__(self, path: Path) -> None:
        self._archive = None if path.is_dir() else zipfile.ZipFile(path)
        self._folder = path
        in_folder = () if self._archive else path.rglob("*")
        files = [file.relative_to(path).as_posix() for file in in_folder if not file.is_dir()]
        self.names = sorted(self._archive.namelist() if self._archive else files)
        self.opened = ""

    def open(self, name: str) -> IO[bytes]:
        """Open a file to read its bytes."""
        if name not in self.names:
            raise Wrong("%s: it is missing" % name)
        self.opened = name
        return self._archive.open(name) if self._archive else (self._folder / name).open("rb")

    def read(self, name: str) -> bytes:
        """Return the bytes of a file."""
        with self.open(name) as file:
            return file.read()

    def text(self, name: str) -> str:
        """Return a file as text."""
        return self.read(name).decode()

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of a file in hexadecimal digits."""
        digest = hashlib.sha256()
        with self.open(name) as file:
            for chunk in iter(lambda: file.read(1 << 20), b""):
                digest.update(chunk)
        return digest.hexdigest()


def check_list(pack: Pack) -> None:
    """Compare all files with the list of their hashes."""
    list_text = pack.read(LIST).decode("utf-8", "replace")
    listed = dict(line.split("  ", 1)[::-1] for line in list_text.split("\n") if "  " in line)
    found = {name: pack.sha256(name) for name in pack.names if name not in (LIST, LIST_SIGNATURE)}
    wrong = ["%s: it is not as listed in %s" % (name, LIST) for name in found if listed.get(name) != found[name]]
    wrong += ["%s: it is missing" % name for name in listed if name not in found]
    expected = "".join("%s  %s\n" % (found[name], name) for name in sorted(found))
    if len(set(pack.names)) < len(pack.names) or (not wrong and list_text != expected):
        wrong.append("%s: it is not a list of each file once, in order" % LIST)
    if wrong:
        raise Wrong("\n".join(wrong))


def check_signatures(pack: Pack, key_line: str) -> None:
    """Require that the checkpoint, and the list if its signature is there, are signed."""
    require_signature(CHECKPOINT, pack.text(CHECKPOINT), key_line)
    if LIST_SIGNATURE in pack.names:
        note = pack.text(LIST_SIGNATURE)
        if note.rpartition("\n\n")[0] != "tallybook evidence\n%s" % pack.sha256(LIST):
            raise Wrong("%s: it is the signature of another list" % LIST_SIGNATURE)
        require_signature(LIST_SIGNATURE, note, key_line)


def check_total(pack: Pack, ledger: Ledger, customer: str, total: Any) -> None:
    """Count a total once more from the events, and compare it, its explanation and its closing."""
    rows, rules, revision = rows_behind(ledger, customer, total)
    quantity = set_contributions(rows, rules)
    counted = [row for row in rows if row.verdict == "counted"]
    numbers = [Fraction(row.value) for row in counted if row.value is not None]
    lines = "".join("%s,%s,%s\n" % (row.position, row.state["occurred_at"], row.text) for row in counted)
    facts: List[Any] = [
        ("quantity", quantity),
        ("billable", billable_of(quantity, rules)),
        ("sum", sum(numbers, Fraction(0))),
        ("last", Fraction(counted[-1].value) if counted and counted[-1].value is not None else None),
        ("count", len(counted)),
        ("event_count", len(rows)),
        ("digest", hashlib.sha256(lines.encode()).hexdigest()),
        ("rules", rules),
        ("revision", revision),
    ]
    for name, value in facts:
        claimed = stated(total[name]) if isinstance(value, Fraction) and total[name] is not None else total[name]
        if claimed != value:
            raise Wrong("%s: the events give the %s %s, not %s" % (TOTALS, name, value, total[name]))
    if total["kind"] != "current":
        check_closing(TOTALS, ledger, customer, total, rows, quantity, billable_of(quantity, rules))
    _check_explanation(pack, total["explanation"], rows)


def _check_explanation(pack: Pack, name: str, rows: List[Row]) -> None:
    """Compare an explanation with the rows, but for the apostrophes that keep spreadsheets from running text."""
    with io.TextIOWrapper(pack.open(name), encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if len(set(reader.fieldnames or ())) < len(reader.fieldnames or ()):
            raise Wrong("%s: it has a column twice" % name)
        for row, line in zip(rows, reader):
            expected = {
                "verdict": row.verdict,
                "position": str(row.position),
                "identifier": row.identifier,
                "occurred_at": row.state["occurred_at"],
                "recorded_at": row.state["recorded_at"],
                "customer": row.customer,
                "value": row.text,
                "superseded_by": row.superseded_by,
                "cancelled_at": row.cancellation.get("recorded_at"),
                "reason": row.cancellation.get("reason"),
                "by": row.cancellation.get("by"),
                "on_behalf_of": row.cancellation.get("on_behalf_of"),
                "revision": str(row.revision),
            }
            expected.update(("dimension_%s" % key, value) for key, value in row.dimensions)
            found = {str(column).replace("'", ""): str(cell).replace("'", "") for column, cell in line.items()}
            contribution = stated(found.pop("contribution"))
            for column, text in expected.items():
                if found.pop(column.replace("'", ""), None) != (text or "").replace("'", ""):
                    raise Wrong("%s: the event at position %s has another %s" % (name, row.position, column))
            if any(found.values()):
                raise Wrong("%s: the event at position %s has more than is known of it" % (name, row.position))
            if contribution != row.contribution:
                raise Wrong("%s: the event at position %s has another contribution" % (name, row.position))
    with io.TextIOWrapper(pack.open(name), encoding="utf-8", newline="") as file:
        if sum(1 for _ in csv.reader(file)) != len(rows) + 1:
            raise Wrong("%s: it does not have a row for each event" % name)


def check_totals(pack: Pack) -> str:
    """Check the events and all totals, and return a summary."""
    _, size, root, _ = pack.text(CHECKPOINT).split("\n")[:4]
    with pack.open(EVENTS) as events, pack.open(HASHES) as hashes:
        ledger = Ledger(read_events(events, hashes, int(size), b64decode(root, validate=True)))
    document = json.loads(pack.text(TOTALS))
    for total in document["totals"]:
        is_at_checkpoint = total["position"] == int(size)
        if total["kind"] != "closed" and not (total["kind"] in ("current", "adjusted") and is_at_checkpoint):
            raise Wrong("%s: there is no total of the kind %s at %s" % (TOTALS, total["kind"], total["position"]))
        check_total(pack, ledger, document["customer"], total)
    lines = ["  %s %s: %s" % (total["meter"], total["kind"], total["quantity"]) for total in document["totals"]]
    heading = "these totals follow from the events, which are in the checkpoint of %s events:" % size
    return "\n".join([heading, *lines])


def check(pack: Pack, key: str, checkpoints: str) -> List[str]:
    """Check a pack and return what holds. Raises Wrong, which names the file."""
    try:
        return check_all(pack, key, checkpoints)
    except Wrong:
        raise
    except Exception as error:
        raise Wrong("%s: it can't be read: %s: %s" % (pack.opened, type(error).__name__, error)) from error


def check_all(pack: Pack, key: str, checkpoints: str) -> List[str]:
    """Check a pack. A changed file may lead to any error."""
    check_list(pack)
    result = ["all files are as listed in %s, which has the SHA-256 %s" % (LIST, pack.sha256(LIST))]
    note = pack.text(CHECKPOINT)
    if checkpoints and "\n\n" + note.partition("\n\n")[0] + "\n\n" not in "\n\n" + checkpoints:
        raise Wrong("%s: it is not among the checkpoints that you trust" % CHECKPOINT)
    if KEY in pack.names or key:
        key_line = pack.text(KEY).strip() if KEY in pack.names else key
        if key and key != key_line:
            raise Wrong("%s: it is not the key that you trust" % KEY)
        check_signatures(pack, key or key_line)
        result += ["the checkpoint is signed by %s" % (key or key_line)]
        result += ["the list is signed by the same key"] if LIST_SIGNATURE in pack.names else []
    result += [check_totals(pack)]
    if not (key or checkpoints):
        result += ["compare the key, or checkpoint.txt, with what you have from a source that you trust"]
    if LIST_SIGNATURE not in pack.names:
        result += ["the list is not signed: compare its SHA-256 with that of the sender"]
    return result


def main() -> int:
    """Run the program, and return its exit status."""
    parser = argparse.ArgumentParser(description="Check an evidence pack of Tallybook.")
    parser.add_argument("pack", nargs="?", default=str(Path(__file__).resolve().parent), help="a zip file or a folder")
    parser.add_argument("--key", default="", help="the public key that you trust, or a file with it")
    parser.add_argument("--checkpoint", help="a file with checkpoints that you trust")
    arguments = parser.parse_args()
    key = Path(arguments.key).read_text() if arguments.key and Path(arguments.key).is_file() else arguments.key
    trusted = Path(arguments.checkpoint).read_text(encoding="utf-8") if arguments.checkpoint else ""
    try:
        print("\n".join(check(Pack(Path(arguments.pack)), key.strip(), trusted)))
    except Wrong as error:
        print("WRONG %s" % str(error).replace("\n", "\nWRONG "))
        return 1
    except (OSError, zipfile.BadZipFile) as error:
        print("WRONG %s: %s" % (arguments.pack, error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
