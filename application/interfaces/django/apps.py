"""The configuration of the application."""
# pyright: basic, reportMissingTypeStubs=false

from django.apps import AppConfig


class TallybookConfig(AppConfig):
    """The outbox of Tallybook. Its label is `tallybook`."""

    name = "tallybook.django"
    label = "tallybook"
    verbose_name = "Tallybook"
    default_auto_field = "django.db.models.BigAutoField"  # pyright: ignore[reportAssignmentType]
