"""The outbox as a model, so that migrations create it, and the admin shows it."""
# pyright: basic, reportMissingTypeStubs=false

from typing import ClassVar

from django.db import models
from tallybook.application.storage.outbox import DEFAULT_TABLE, WAITING


class OutboxRow(models.Model):
    """A meter event that waits for the relay, or that the ledger rejected. Rows are inserted by `Outbox.record`."""

    id = models.BigAutoField(primary_key=True)
    format = models.IntegerField()
    event_name = models.TextField()
    identifier = models.TextField()
    payload = models.TextField()
    occurred_at = models.TextField(null=True)
    submitted_at = models.TextField()
    state = models.TextField()
    error_code = models.TextField(null=True)
    error_message = models.TextField(null=True)
    rejected_at = models.TextField(null=True)

    class Meta:
        """The table is that of `outbox_sql`."""

        db_table = DEFAULT_TABLE
        verbose_name = "outbox row"
        indexes: ClassVar = [
            models.Index(fields=["id"], name=f"{DEFAULT_TABLE}_waiting", condition=models.Q(state=WAITING))
        ]

    def __str__(self) -> str:
        return f"{self.event_name} {self.identifier}"
