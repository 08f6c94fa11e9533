"""Create the outbox."""
# pyright: basic, reportMissingTypeStubs=false

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    """Create the table that `outbox_sql` describes."""

    initial = True
    dependencies: ClassVar = []
    operations: ClassVar = [
        migrations.CreateModel(
            name="OutboxRow",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("format", models.IntegerField()),
                ("event_name", models.TextField()),
                ("identifier", models.TextField()),
                ("payload", models.TextField()),
                ("occurred_at", models.TextField(null=True)),
                ("submitted_at", models.TextField()),
                ("state", models.TextField()),
                ("error_code", models.TextField(null=True)),
                ("error_message", models.TextField(null=True)),
                ("rejected_at", models.TextField(null=True)),
            ],
            options={
                "db_table": "tallybook_outbox",
                "verbose_name": "outbox row",
                "indexes": [
                    models.Index(fields=["id"], name="tallybook_outbox_waiting", condition=models.Q(state="waiting"))
                ],
            },
        )
    ]
