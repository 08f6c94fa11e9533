"""What can happen that webhooks tell of, and in which forms.

Snapshot events, Stripe's v1, hold the object as it was. Thin events, Stripe's v2, only name it.
"""

from collections.abc import Iterable, Mapping

UPDATED = "billing.meter.updated"
HAPPENED: Mapping[str, str] = {
    "Configured": "billing.meter.created",
    "Renamed": UPDATED,
    "RulesChanged": UPDATED,
    "Deactivated": "billing.meter.deactivated",
    "Reactivated": "billing.meter.reactivated",
}
"""The snapshot event of what the ledger says has happened to a meter."""
ERROR_REPORT = "v1.billing.meter.error_report_triggered"
NO_METER_FOUND = "v1.billing.meter.no_meter_found"
SNAPSHOTS = tuple(dict.fromkeys(HAPPENED.values()))
REPORTS = (ERROR_REPORT, NO_METER_FOUND)
THIN = (*REPORTS, *(f"v1.{snapshot}" for snapshot in SNAPSHOTS))
EVERYTHING = "*"


def is_wanted(type_: str, enabled: Iterable[str]) -> bool:
    """Whether events of a type go to who enabled these.

    With `*` each thing is told once: the thin form of a snapshot has to be asked for by name.
    """
    return type_ in enabled or (EVERYTHING in enabled and type_ in (*SNAPSHOTS, *REPORTS))
