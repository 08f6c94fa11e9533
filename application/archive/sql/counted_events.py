"""The events that count, in SQL: read by the rules of their time, and neither cancelled, filtered nor superseded."""

from collections.abc import Sequence, Set

from ....domain.counting import window_start
from ....domain.errors import InvalidParameter
from ....domain.formulas import ValueType
from ....domain.rules import Rules
from ....domain.rules_schedule import ALL_TIME, ALWAYS, EffectiveRules, RulesInRange
from ....domain.text import abbreviated_repr
from ....domain.timestamps import microseconds_to_iso
from ....projections.ports import CANCEL_REVOKED, EVENT_CANCELLED, USAGE_RECORDED
from .conditions import compared_keys, condition_sql, keys_of, number_columns
from .dialects import Dialect
from .number_text import fraction_digits
from .statement import RELATION, Statement, UsageSelection, select

COUNTED = "counted_events"
"""The common table expression with the events that count."""
TYPED_VALUE = ("digits", "scale")
"""The columns of a value as a number: its digits without the point, and how many of them are after it."""
MAX_TYPED_DIGITS = 18
"""The digits that every integer of 64 bits can have."""
_ANY_POSITION = (1 << 63) - 1


def add_counted_events(statement: Statement, selection: UsageSelection, group_by: Sequence[str]) -> str:
    """Add the events that count, with the columns customer, position, occurred_us, value and group_1, group_2, ….

    If the selection has relations of usage, the columns TYPED_VALUE take the place of `value`. Returns the name of the
    common table expression. Raises InvalidParameter for a key that is no dimension.
    """
    keys = [key for part in selection.parts for key in part.effective.rules.all_dimension_keys]
    for field, named in (("where", selection.where), ("group_by", group_by)):
        for key in named:
            if key not in keys:
                raise InvalidParameter(
                    f"{field!r} names {abbreviated_repr(key)}, which is no dimension of the meter.",
                    field=field,
                    value=key,
                )
    _add_cancelled_events(statement, selection)
    counted: list[str] = []
    for number, part in enumerate(selection.parts, 1):
        prefix = f"part_{number}_" if len(selection.parts) > 1 else ""
        usage = selection.usage[number - 1] if selection.usage else ""
        counted.append(_PartEvents(statement, selection, part, prefix).add(group_by, usage))
    if len(counted) > 1:
        union = "\nUNION ALL\n".join(f"SELECT * FROM {name}" for name in counted)
        statement.add(COUNTED, union)
    return COUNTED


def _add_cancelled_events(statement: Statement, selection: UsageSelection) -> None:
    """Add the positions of cancelled events: the newest cancellation or revocation of each decides."""
    newest = "MAX(CASE WHEN topic = '{}' THEN position ELSE 0 END)"
    statement.add(
        "cancelled_events",
        select(
            ["COALESCE(recorded_position, 0) AS cancelled_position"],
            RELATION,
            [f"topic IN ('{EVENT_CANCELLED}', '{CANCEL_REVOKED}')", f"position <= {selection.position}"],
            f"GROUP BY recorded_position\nHAVING {newest.format(EVENT_CANCELLED)} > {newest.format(CANCEL_REVOKED)}",
        ),
        "as known at the position; a revoked cancellation has no effect",
    )


def usage_statement(recorded_name: str, rules: Rules, dialect: Dialect, relation: str) -> str:
    """Return the statement for all usage that rules can read and don't filter, as numbers, in the order of positions.

    Its columns are position, occurred_us, customer, one for each dimension, and TYPED_VALUE: the digits of the value as
    an integer, NULL if they are more than MAX_TYPED_DIGITS, and how many of them are after the point. Both are NULL if
    there is no value.
    """
    part = RulesInRange(*ALL_TIME, EffectiveRules(ALWAYS, 1, rules))
    selection = UsageSelection(recorded_name, recorded_name, (part,), _ANY_POSITION, relation=relation)
    statement = Statement(dialect)
    events = _PartEvents(statement, selection, part, "")
    source = events.add_readable()
    digits = "REPLACE(value, '.', '')"
    is_short = f"LENGTH(REPLACE({digits}, '-', '')) <= {MAX_TYPED_DIGITS}"
    scale = f"LENGTH({fraction_digits(dialect, 'value')})"
    values = [
        f"CASE WHEN {is_short} THEN {dialect.integer(digits)} END AS digits",
        f"{dialect.integer(scale)} AS scale",
    ]
    columns = ["position", "occurred_us", "customer", *events.dimension_columns, *values]
    return statement.text(select(columns, source, (), "ORDER BY position")).rstrip(";\n")


class _PartEvents:
    """The events of a range of time under one revision of the rules."""

    def __init__(self, statement: Statement, selection: UsageSelection, part: RulesInRange, prefix: str) -> None:
        self._statement = statement
        self._dialect: Dialect = statement.dialect
        self._selection = selection
        self._part = part
        self._rules = part.effective.rules
        self._prefix = prefix
        dimensions = [f"dimension_{number}" for number, _ in enumerate(self._rules.all_dimension_keys, 1)]
        self._dimensions = dict(zip(self._rules.all_dimension_keys, dimensions, strict=True))
        self._columns = {self._rules.customer_key: "customer"}
        self._columns |= {key: column for key, column in self._dimensions.items() if key not in self._columns}
        filter_keys = [] if self._rules.filter is None else list(keys_of(self._rules.filter))
        new_keys = [key for key in dict.fromkeys(filter_keys) if key not in self._columns]
        self._columns |= {key: f"filter_{number}" for number, key in enumerate(new_keys, 1)}
        self._filter_columns = {key: self._columns[key] for key in new_keys}

    @property
    def dimension_columns(self) -> Sequence[str]:
        """The columns of the dimensions of the rules."""
        return list(self._dimensions.values())

    def add(self, group_by: Sequence[str], usage: str = "") -> str:
        """Add the events that count, of a relation of usage if there is one. Returns the name of the expression."""
        conditions = [f"position <= {self._selection.position}"] if usage else self._readable_conditions()
        source = usage or self._add_compared_numbers(self._add_recorded())
        values = TYPED_VALUE if usage else ("value",)
        return self._add_counted(self._add_active(source, conditions, values), group_by, values)

    def add_readable(self) -> str:
        """Add all events that the rules can read and don't filter, whenever they occurred."""
        source = self._add_compared_numbers(self._add_recorded())
        columns = ["position", "occurred_us", "customer", "value", *self.dimension_columns]
        return self._statement.add("readable_events", select(columns, source, self._readable_conditions()))

    def _add_recorded(self) -> str:
        """Add the events as they were recorded, with the texts of their payloads that the rules read."""
        texts = {
            "customer": self._rules.customer_key,
            "value": self._rules.value_key,
            **{column: key for key, column in self._dimensions.items()},
            **{column: key for key, column in self._filter_columns.items()},
        }
        columns = ["position", f"{self._dialect.microseconds.format('occurred_at')} AS occurred_us"]
        columns += [
            f"{self._dialect.payload_text.format(self._dialect.literal(key))} AS {column}"
            for column, key in texts.items()
        ]
        start, end, effective = self._part
        return self._statement.add(
            f"{self._prefix}recorded_events",
            select(
                columns,
                self._selection.relation,
                [
                    f"topic = '{USAGE_RECORDED}'",
                    f"event_name = {self._dialect.literal(self._selection.recorded_name)}",
                    f"position <= {self._selection.position}",
                ],
            ),
            f"rules revision {effective.revision}, usage from {_iso(start)} until {_iso(end)}",
        )

    def _add_compared_numbers(self, source: str) -> str:
        """Add columns for numbers that the filter compares."""
        compared = [] if self._rules.filter is None else compared_keys(self._rules.filter)
        if not compared:
            return source
        columns = [column for key in compared for column in number_columns(self._dialect, self._columns[key])]
        return self._statement.add(f"{self._prefix}compared_events", select(["*", *columns], source))

    def _readable_conditions(self) -> list[str]:
        """Return the conditions of events that the rules can read and don't filter."""
        conditions = ["customer <> ''"]
        if self._dialect.lacks_nul:
            conditions.append(self._dialect.lacks_nul.format("customer"))
        conditions += [f"{self._dimensions[key]} IS NOT NULL" for key in self._rules.dimension_keys]
        conditions += [self._value_condition()]
        if self._rules.filter is not None:
            conditions.append(condition_sql(self._dialect, self._rules.filter, self._columns.__getitem__))
        return conditions

    def _add_active(self, source: str, readable: Sequence[str], values: Sequence[str]) -> str:
        """Add the events of the range that are neither cancelled nor filtered, and that the rules can read."""
        start, end = self._part.start, self._part.end
        window = self._rules.event_time_window
        if window is not None:  # an event outside of the range can supersede one in it
            start, end = window_start(start, window), -window_start(-end, window)
        conditions = [f"occurred_us >= {start}", f"occurred_us < {end}", *readable]
        if self._selection.customer is not None:
            conditions.append(f"customer = {self._dialect.literal(self._selection.customer)}")
        conditions += [self._selected_values(key, values) for key, values in self._selection.where.items()]
        conditions.append("position NOT IN (SELECT cancelled_position FROM cancelled_events)")
        columns = ["position", "occurred_us", "customer", *values, *self.dimension_columns]
        return self._statement.add(
            f"{self._prefix}active_events", select(columns, source, conditions), "not cancelled, not filtered"
        )

    def _value_condition(self) -> str:
        is_number = self._dialect.is_decimal.format("value")
        match self._rules.formula.rule.value_type:
            case ValueType.NUMBER:
                return is_number
            case ValueType.OPTIONAL_NUMBER:
                return f"(value IS NULL OR {is_number})"
            case ValueType.TEXT:
                return "value IS NOT NULL"

    def _selected_values(self, key: str, values: Set[str | None]) -> str:
        """Return the condition that the value of a dimension is one of some values, of which None is no value."""
        column = self._dimensions.get(key)
        if column is None:  # a dimension of another revision: no event has a value
            return "1 = 1" if None in values else "1 = 0"
        texts = ", ".join(self._dialect.literal(text) for text in sorted(text for text in values if text is not None))
        conditions = [f"{column} IN ({texts})"] if texts else []
        conditions += [f"{column} IS NULL"] if None in values else []
        return f"({' OR '.join(conditions)})"

    def _add_counted(self, source: str, group_by: Sequence[str], values: Sequence[str]) -> str:
        """Add the newest event of each window; all events without windows."""
        groups = [
            f"{self._dimensions.get(key) or self._dialect.text('NULL')} AS group_{number}"
            for number, key in enumerate(group_by, 1)
        ]
        conditions: list[str] = []
        window = self._rules.event_time_window
        if window is not None:
            start = f"occurred_us - {self._dialect.modulo('occurred_us', window.microseconds)}"
            places = ", ".join(["customer", *self._dimensions.values(), start])
            conditions.append(f"position IN (SELECT MAX(position) FROM {source} GROUP BY {places})")
            if self._part.start % window.microseconds or self._part.end % window.microseconds:
                conditions += [f"occurred_us >= {self._part.start}", f"occurred_us < {self._part.end}"]
        name = f"{self._prefix}{COUNTED}"
        columns = ["customer", "position", "occurred_us", *values, *groups]
        comment = "" if window is None else f"the event recorded last in each UTC {window}"
        return self._statement.add(name, select(columns, source, conditions), comment)


def _iso(microseconds: int) -> str:
    try:
        return microseconds_to_iso(microseconds)
    except OverflowError:  # the end of the last window is after all datetimes
        return "the end of time"
