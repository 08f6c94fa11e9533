"""The Django application `tallybook.django`: a ledger and an outbox for a Django project.

Add "tallybook.django" to INSTALLED_APPS. `metering` and `outbox` return the ledger and the outbox of this process, by
the setting TALLYBOOK.
"""

from .ledger import metering, outbox

__all__ = ["metering", "outbox"]
