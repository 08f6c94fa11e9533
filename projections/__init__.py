"""What we make of it: folds and read models, rebuilt from the events at will."""

from .projector import Progress, Projector
from .totals import Totals
from .usage_view import UsageView

__all__ = ["Progress", "Projector", "Totals", "UsageView"]
