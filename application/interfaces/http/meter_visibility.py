"""Which meters an access key that is limited to customers may read."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from ....domain.errors import MeterNotFound
from ...meter_views import MeterView
from ...similar_names import meter_not_found
from .errors import ApiError, missing_object
from .ledgers import RequestContext, ServedLedger
from .operations import Operation

_METER_PATH = "/v1/billing/meters/{id}"


def require_visible_meter(operation: Operation, context: RequestContext[Any]) -> None:
    """Raise the error of a missing meter if the key may not read the one that a request names.

    The error doesn't name similar meters, since the key may not read them either.
    """
    if operation.path.startswith(_METER_PATH):
        meter_id = context.path_parameters["id"]
        if _has_other_customers(context.ledger, context.ledger.meter(meter_id)):
            raise missing_object("meter", meter_id)
        return
    event_name = getattr(context.params, "event_name", None)
    if event_name is not None and not is_visible_meter(context, event_name):
        raise meter_not_found(event_name, ())


def is_visible_meter(context: RequestContext[Any], event_name: str) -> bool:
    """Return whether there is a meter of this name that the key, which is limited to customers, may read."""
    try:
        return not _has_other_customers(context.ledger, context.ledger.metering.meters.get(event_name))
    except MeterNotFound:
        return False


def require_visible_rules(context: RequestContext[Any], names: Sequence[str] | None) -> None:
    """Raise an error if the key may not read all that is stored about some meters; about all of them if None.

    The stored events of a meter name its derived meters, also those that the key may not read.
    """
    if not context.access_key.customers:
        return
    meters = {meter.event_name: meter for meter in context.ledger.metering.meters.list()}
    visible = {meter.event_name: meter for meter in meters_of_customers(context.ledger, meters.values())}
    if missing := [name for name in names or () if name not in visible]:
        raise meter_not_found(missing[0], ())
    selected = [meters[name] for name in meters if names is None or name in names]
    sources = [meters[meter.source] for meter in selected if meter.source is not None]
    if any(visible.get(meter.event_name) != meter for meter in (*selected, *sources)):
        raise ApiError(
            403,
            f"The provided key '{context.access_key.hint}' may not read the rules of all meters. Send 'meters': "
            "those that it may read, without a source of others that it may not read, and meters derived from that.",
            code="more_permissions_required",
            param="meters",
        )


def visible_meters(context: RequestContext[Any], meters: Iterable[MeterView]) -> list[MeterView]:
    """Return the meters that the key of a request may read, without the names of others."""
    if not context.access_key.customers:
        return list(meters)
    return meters_of_customers(context.ledger, meters)


def meters_of_customers(ledger: ServedLedger, meters: Iterable[MeterView]) -> list[MeterView]:
    """Return the meters that who may read some customers only may read, without the names of others."""
    return [_without_hidden_names(ledger, meter) for meter in meters if not _has_other_customers(ledger, meter)]


def _without_hidden_names(ledger: ServedLedger, meter: MeterView) -> MeterView:
    visible = [name for name in meter.derived_meters if not _differ(ledger, name, meter.event_name)]
    return replace(meter, derived_meters=tuple(visible))


def _has_other_customers(ledger: ServedLedger, meter: MeterView) -> bool:
    """Return whether a meter finds customers under another payload key than before, or than its source.

    A customer of it may have the name of another one, whose events are in its older results or in the source.
    """
    if meter.source is not None:
        return _differ(ledger, meter.event_name, meter.source)
    present = ledger.metering.imports.ledger.meter(meter.event_name)  # `meter` may be as of an earlier time
    return present.revision > 1 and _differ(ledger, meter.event_name)


def _differ(ledger: ServedLedger, *names: str) -> bool:
    """Return whether meters have, or once had, different customer keys. Announced ones don't matter yet."""
    now = ledger.now()
    return (
        len(
            {
                revision.rules.customer_key
                for revision in chain(*map(ledger.metering.meters.history, names))
                if revision.effective_from is None or revision.effective_from <= now
            }
        )
        > 1
    )
