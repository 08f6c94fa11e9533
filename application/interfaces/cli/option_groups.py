"""Groups of options that several commands share: each is a dataclass, and a command takes it as one parameter."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

import typer

from ..condition_text import parse_where
from .options import (
    AnchorOption,
    ClosedPeriodOption,
    CsvOption,
    FromOption,
    JsonOption,
    PeriodOption,
    SelectedPeriodOption,
    TimezoneOption,
    ToOption,
    WhereOption,
    WithoutOption,
)

if TYPE_CHECKING:
    from ...queries.dimension_query import Where
    from .csv_output import CsvRows
    from .csv_tables import CsvTables

Result = TypeVar("Result")


@dataclass(frozen=True)
class TimeRangeOptions:
    """The options that select a time range: the current month without any."""

    period: PeriodOption = None
    start: FromOption = None
    end: ToOption = None
    timezone: TimezoneOption = "UTC"
    anchor: AnchorOption = None

    @property
    def is_default(self) -> bool:
        """Whether no option selects a time range."""
        return self.period is None and self.start is None


@dataclass(frozen=True)
class ClosedPeriodOptions(TimeRangeOptions):
    """The options that select the period of an invoice, which has no default."""

    period: ClosedPeriodOption = None


@dataclass(frozen=True)
class SelectedTimeOptions(TimeRangeOptions):
    """The options that select meter events by their time: any time without them."""

    period: SelectedPeriodOption = None


@dataclass(frozen=True)
class DimensionOptions:
    """The options that select usage by its dimension values."""

    where: WhereOption = None
    without: WithoutOption = None

    def parse(self) -> "Where | None":
        """Return the dimension values to select; None for all. Raises BadParameter."""
        return parse_where(self.where or (), self.without or ())

    @property
    def label(self) -> str:
        """The selection as the end of a heading; empty if all usage is selected."""
        where = f", where {', '.join(self.where)}" if self.where else ""
        return where + (f", without {', '.join(self.without)}" if self.without else "")


@dataclass(frozen=True)
class TableOptions:
    """The options of a command that prints a table: as CSV, or all of the result as JSON."""

    as_csv: CsvOption = False
    as_json: JsonOption = False

    def __post_init__(self) -> None:
        if self.as_csv and self.as_json:
            raise typer.BadParameter("Use --csv or --json, not both.")

    @property
    def is_text(self) -> bool:
        """Whether the output is for people. Only then anything else than the result may be printed."""
        return not (self.as_csv or self.as_json)

    def show(
        self, as_text: Callable[[Result], object], table: "Callable[[type[CsvTables]], Callable[[Result], CsvRows]]"
    ) -> Callable[[Result], object]:
        """Return the function that prints a result: `as_text`, or one that prints the CSV rows that `table` selects."""
        if not self.as_csv:
            return as_text
        from .csv_output import print_csv  # noqa: PLC0415 - loads pydantic
        from .csv_tables import CsvTables  # noqa: PLC0415 - loads the domain

        rows_of = table(CsvTables)
        return lambda result: print_csv(rows_of(result))


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command for Typer in which each parameter that is a dataclass is replaced by parameters for its fields.

    Typer then sees the fields as options, and the command gets their values as the dataclass.
    """
    signature = inspect.signature(command)
    groups = {
        name: cast(type[Any], parameter.annotation)
        for name, parameter in signature.parameters.items()
        if is_dataclass(parameter.annotation)
    }

    @wraps(command)
    def run(**values: object) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    parameters = list(_expanded(signature.parameters, groups))
    vars(run)["__signature__"] = signature.replace(parameters=parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _expanded(
    parameters: Mapping[str, inspect.Parameter], groups: Mapping[str, type[Any]]
) -> Iterator[inspect.Parameter]:
    """Yield the parameters in their order, all by keyword, with the fields of a group in its place."""
    for name, parameter in parameters.items():
        if name not in groups:
            yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            continue
        for field in fields(groups[name]):
            yield inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type
            )
