"""The command line as the tests run it: in this process, on a ledger in a folder of the test's."""

import json
from pathlib import Path
from typing import Any

from tallybook.application.cli.commands import app
from typer.testing import CliRunner, Result


class CommandLine:
    """Runs `tallybook` with a ledger of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger_file = folder / "usage.db"
        self.views_file = folder / "usage.db.views"
        self.url = f"sqlite:///{self.ledger_file}"
        self.environment = {"TALLYBOOK_LEDGER": self.url, "COLUMNS": "120"}

    def run(self, *words: object, status: int = 0) -> Result:
        """Run a command that is to end with `status`."""
        result = CliRunner().invoke(app, [str(word) for word in words], env=self.environment, prog_name="tallybook")
        assert result.exit_code == status, (words, result.stdout, result.stderr, result.exception)
        return result

    def lines(self, *words: object) -> list[str]:
        """What a command prints, line by line."""
        return self.run(*words).stdout.splitlines()

    def answer(self, *words: object, status: int = 0) -> Any:
        """What a command answers in JSON."""
        return json.loads(self.run(*words, "--json", status=status).stdout)

    def refusal(self, *words: object, status: int = 1) -> tuple[str, str | None]:
        """The code and field that a command is refused with; the line for people names the code too."""
        error = self.refusal_document(*words, status=status)
        said = self.run(*words, status=status).stderr
        assert said.startswith(f"tallybook: {error['code']}: ")
        assert said.count("\n") == 1
        return error["code"], error["field"]

    def refusal_document(self, *words: object, status: int = 1) -> Any:
        """All that a refusal tells in JSON."""
        return json.loads(self.run(*words, "--json", status=status).stderr)["error"]

    def write(self, name: str, content: str | bytes) -> Path:
        """A file in the test's folder."""
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path
