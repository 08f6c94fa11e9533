"""Projections: folds of the events into read models, which can be rebuilt at any time."""

from ..domain.totals import Totals
from .projector import Progress, Projector
from .usage_view import UsageView

__all__ = ["Progress", "Projector", "Totals", "UsageView"]
