"""The outbox in Django's admin: it shows the rows, and changes none."""
# pyright: basic, reportMissingTypeStubs=false

from django.contrib import admin
from django.http import HttpRequest

from .models import OutboxRow


@admin.register(OutboxRow)
class OutboxRowAdmin(admin.ModelAdmin):
    """Lists the rows that wait and those that were rejected, with their errors."""

    list_display = ("id", "state", "event_name", "identifier", "submitted_at", "error_code")
    list_filter = ("state", "event_name", "error_code")
    search_fields = ("identifier",)

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002
        """Return False: `Outbox.record` inserts rows."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: OutboxRow | None = None) -> bool:  # noqa: ARG002
        """Return False: a row is what the program submitted."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: OutboxRow | None = None) -> bool:  # noqa: ARG002
        """Return False: the relay deletes recorded rows, and `Outbox.drop` rejected ones."""
        return False
