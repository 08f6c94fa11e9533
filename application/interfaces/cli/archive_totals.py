"""The command `archive totals`."""

from functools import partial

from . import queries_output
from .option_groups import DimensionOptions, TableOptions, TimeRangeOptions, with_option_groups
from .options import AsOfOption, DestinationArgument, GroupByOption, MeterArgument
from .session import print_result, reported_errors


@with_option_groups
def totals(
    meter: MeterArgument,
    destination: DestinationArgument,
    *,
    time: TimeRangeOptions,
    as_of: AsOfOption = None,
    dimensions: DimensionOptions,
    group_by: GroupByOption = None,
    output: TableOptions,
) -> None:
    """Show the totals of a period from an archive.

    DuckDB computes the total of each customer. They are those of the ledger at the last event of the archive; no ledger
    is needed.
    """
    from ...archives import Archive  # noqa: PLC0415
    from ...clock import utc_now  # noqa: PLC0415 - loads the domain
    from .time_ranges import parse_as_of, parse_time_range  # noqa: PLC0415

    with reported_errors(as_json=output.as_json):
        span = parse_time_range(time, now=utc_now())
        known = parse_as_of(as_of, time.timezone, lambda: _NO_HEAD)
        results = Archive.open(destination).totals(
            meter, span.start, span.end, as_of=known, where=dimensions.parse(), group_by=group_by or ()
        )
        show = output.show(partial(queries_output.show_totals, meter, span), lambda tables: tables.totals)
        print_result(results, show, as_json=output.as_json)


_NO_HEAD = 1 << 63
"""Every number is a position, because the last position isn't known before the archive is open."""
