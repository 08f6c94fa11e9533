"""Runs the command line in the test process, on a ledger in the test's folder."""

import json
from pathlib import Path
from typing import Any

from tallybook.application.interfaces.cli.app import app
from tallybook.application.storage.sqlite.store import SQLiteStore
from tallybook.application.storage.url import resolve_store
from typer.testing import CliRunner, Result


class CommandLine:
    """Runs `tallybook` with one ledger."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger_file = folder / "usage.db"
        self.url = f"sqlite:///{self.ledger_file}"
        store = resolve_store(self.url)
        assert isinstance(store, SQLiteStore)
        self.read_models_file = Path(store.read_models_database)
        self.environment = {"TALLYBOOK_LEDGER": self.url, "COLUMNS": "120"}

    def run(self, *arguments: object, status: int = 0) -> Result:
        """Run a command and check its exit status."""
        result = CliRunner().invoke(
            app, [str(argument) for argument in arguments], env=self.environment, prog_name="tallybook"
        )
        assert result.exit_code == status, (arguments, result.stdout, result.stderr, result.exception)
        return result

    def lines(self, *arguments: object) -> list[str]:
        """Return the lines that a command prints."""
        return self.run(*arguments).stdout.splitlines()

    def run_json(self, *arguments: object, status: int = 0) -> Any:
        """Return the parsed JSON output of a command."""
        return json.loads(self.run(*arguments, "--json", status=status).stdout)

    def run_error(self, *arguments: object, status: int = 1) -> tuple[str, str | None]:
        """Return the code and field of a command's error, and check that the error as text has the code."""
        error = self.run_error_json(*arguments, status=status)
        stderr = self.run(*arguments, status=status).stderr
        assert stderr.startswith(f"tallybook: {error['code']}: ")
        assert stderr.count("\n") == 1
        return error["code"], error["field"]

    def run_error_json(self, *arguments: object, status: int = 1) -> Any:
        """Return the parsed JSON error of a command."""
        return json.loads(self.run(*arguments, "--json", status=status).stderr)["error"]

    def write(self, name: str, content: str | bytes) -> Path:
        """Create a file in the test's folder."""
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path
