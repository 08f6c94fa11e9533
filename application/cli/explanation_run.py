"""What is explained, and how it leaves as CSV."""

from io import StringIO

from ...domain.errors import PeriodNotClosed
from ...domain.texts import shown
from ..explanation_csv import explanation_csv
from ..metering import Metering
from ..results import Explanation
from .periods import Span
from .wording import when


def explained_closing(metering: Metering, event_name: str, customer: str, span: Span) -> tuple[Span, int]:
    """The span of a closed period, and the position that its frozen figures know of. Raises PeriodNotClosed."""
    for period in metering.closed_periods(event_name, customer, start=span.start, end=span.end):
        if (period.start, period.end) == (span.start, span.end):
            closed_at = when(period.closed_at.replace(microsecond=0))
            return span._replace(shown=f"{span.shown}, as closed at {closed_at}"), period.position
    raise PeriodNotClosed(
        f"The period from {span.start} to {span.end} of {shown(customer)} on {event_name!r} is not closed.",
        field="start",
        value=span.start,
    )


def in_csv(explanation: Explanation) -> bytes:
    """An explanation as CSV, in UTF-8 whatever the terminal's encoding is."""
    file = StringIO(newline="")
    explanation_csv(explanation, file)
    return file.getvalue().encode()
