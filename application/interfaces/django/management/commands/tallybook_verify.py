"""The command `tallybook_verify`."""
# pyright: basic, reportMissingTypeStubs=false

from django.core.management.base import BaseCommand, CommandError

from ...ledger import metering


class Command(BaseCommand):
    """Verifies the read models and the closed periods."""

    help = "Compare the read models and all closed periods with a new fold of the ledger."

    def handle(self, *_: object, **__: object) -> None:
        """Run the command."""
        if not metering().verify().is_equal:
            raise CommandError("The read models or closed periods differ from the ledger: run 'tallybook verify'.")
        self.stdout.write("verified: the read models and all closed periods equal the ledger")
