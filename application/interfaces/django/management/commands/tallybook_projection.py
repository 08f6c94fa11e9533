"""The command `tallybook_projection`."""
# pyright: basic, reportMissingTypeStubs=false

from django.core.management.base import BaseCommand
from tallybook.application.interfaces.stop_signals import stop_on_signals

from ...ledger import metering, outbox


class Command(BaseCommand):
    """Projects the ledger and relays the outbox."""

    help = "Relay the outbox and keep the read models up to date, until Ctrl-C or SIGTERM."

    def handle(self, *_: object, **__: object) -> None:
        """Run the command."""
        with stop_on_signals() as stop:
            metering().run_projection(stop, outbox=outbox())
