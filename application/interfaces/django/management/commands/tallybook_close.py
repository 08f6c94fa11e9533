"""The command `tallybook_close`."""
# pyright: basic, reportMissingTypeStubs=false

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tallybook.application import BillingCycle, TallybookError

from ...ledger import metering


class Command(BaseCommand):
    """Closes a month."""

    help = "Close a month for all customers of all meters, as one billing run. An interrupted run is resumed."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the arguments."""
        parser.add_argument("month", help="The month to close, such as 2026-10.")
        parser.add_argument("--timezone", default="UTC", help="The timezone of the month. UTC by default.")
        parser.add_argument("--by", help="The requester, for the audit trail.")

    def handle(self, *_: object, **options: Any) -> None:
        """Run the command."""
        try:
            first = datetime.strptime(options["month"], "%Y-%m").replace(tzinfo=ZoneInfo(options["timezone"]))
        except (ValueError, KeyError, OSError) as error:
            raise CommandError(f"{options['month']} in {options['timezone']} is not a month: {error}.") from error
        period = BillingCycle("month", options["timezone"]).period_containing(first)
        try:
            result = metering().periods.run(*period, timezone=options["timezone"], by=options["by"])
        except TallybookError as error:
            raise CommandError(f"{error.code}: {error.message}") from error
        if not result.is_complete:
            raise CommandError("The billing run is not complete: run 'tallybook period status'.")
        self.stdout.write(f"closed: {options['month']}")
