"""Makes the screenshots of docs/guides/the-console.md: `python -m tests.console.screenshots`."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from tallybook.application.interfaces.console.demo_ledger import create_demo_ledger

from .browser import WIDE, open_browser, set_scheme, set_width
from .ledgers import local_console

FOLDER = Path(__file__).parents[2] / "docs" / "guides"
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
MAX_BYTES = 120_000
ACME = "meter=tokens&customer=acme&period=2026-10"
SCREENSHOTS = {
    "console-usage": (f"/usage?{ACME}&group_by=model", "light", 880),
    "console-why": (f"/why?{ACME}&show=not_counted", "light", 700),
    "console-periods": ("/periods?period=2026-10", "light", 860),
    "console-rules": ("/rules?meter=storage_gb", "dark", 860),
}
"""The page, the color scheme and the height in pixels of each file."""


def main() -> int:
    """Write all screenshots. Return 1 if one is too large for the repository."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        url = f"sqlite:///{folder / 'demo.db'}"
        create_demo_ledger(url, folder / "demo.checkpoints", NOW)
        with local_console(url) as console, open_browser() as driver:
            driver.get(console.start_url)
            for file_name, (path, scheme, height) in SCREENSHOTS.items():
                set_width(driver, WIDE, height)
                set_scheme(driver, scheme)
                driver.get(f"{console.url}/console{path}")
                driver.save_screenshot(str(FOLDER / f"{file_name}.png"))
    sizes = {name: (FOLDER / f"{name}.png").stat().st_size for name in SCREENSHOTS}
    too_large = {name: size for name, size in sizes.items() if size > MAX_BYTES}
    sys.stdout.write(f"{sizes}\n")
    return 1 if too_large else 0


if __name__ == "__main__":
    sys.exit(main())
