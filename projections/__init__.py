"""Projections: folds of the events into read models, which can be rebuilt at any time."""

from .projector import Progress, Projector
from .totals import Totals
from .usage_view import UsageView

__all__ = ["Progress", "Projector", "Totals", "UsageView"]
