"""The command `tallybook_relay`."""
# pyright: basic, reportMissingTypeStubs=false

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tallybook.application.interfaces.stop_signals import stop_on_signals

from ...ledger import outbox


class Command(BaseCommand):
    """Relays the outbox."""

    help = "Move committed usage from the outbox into the ledger, until Ctrl-C or SIGTERM."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument("--once", action="store_true", help="Relay the rows that wait now, and end.")

    def handle(self, *_: object, **options: Any) -> None:
        """Run the command."""
        opened = outbox()
        if not options["once"]:
            with stop_on_signals() as stop:
                opened.run_relay(stop)
            return
        result = opened.relay()
        self.stdout.write(
            f"relayed: {result.recorded} recorded, {result.duplicates} duplicates, {result.rejected} rejected"
        )
        if result.rejected:
            raise CommandError("The ledger rejected rows, which stay in the outbox with their errors.")
