"""Error messages of the library in the words of the command line: options instead of Python parameters."""

import re

_HINTS = {
    "max_age": "Use --backfill to record it.",
    "max_digits": "Use --any-digits to record it.",
    "another identifier, or lift cancel_window in the policy": "Use --any-age to revoke it, or record the usage again.",
    "cancel_window": "Use --any-age to cancel it, or record a negative value to correct it.",
    "accept_loss": "Use --accept-loss to go on with the first message that the broker has.",
    "allow_empty": "Use --allow-empty to close an empty period.",
    "meters.rename": "Its name is changed by 'tallybook meter rename', its rules by 'tallybook rules change'.",
    "withdraw_settlements": "Use --withdraw-settlements if they are withdrawn.",
    "or summaries": "Use --from and --to for the time before or after that, or 'tallybook summaries' for both.",
}
"""Sentences of the command line for sentences with these words."""
_EXAMPLES = {
    "event_name='METER'": "--event-name METER",
    "{'key': 'region', 'equals': 'eu'}": 'region=eu or {"key": "region", "equals": "eu"}',
    "{'mode': 'up', 'step': '0.01'}": "up:0.01",
}
"""Python values in messages, as they are written on the command line."""
_OPTIONS = {
    "allow_empty": "--allow-empty",
    "as_of": "--as-of",
    "by": "--on-behalf-of",
    "customer_column": "--customer-column",
    "customer_key": "--customer-key",
    "date_format": "--date-format",
    "decimal": "--decimal",
    "delimiter": "--delimiter",
    "dialect": "--dialect",
    "digest": "--digest",
    "dimension_keys": "--dimension-key",
    "display_name": "--display-name",
    "effective_from": "--effective-from",
    "encoding": "--encoding",
    "event_time_window": "--window",
    "filter": "--filter",
    "format": "--format",
    "formula": "--formula",
    "group_by": "--group-by",
    "header_row": "--header-row",
    "keep": "--keep",
    "limit": "--limit",
    "multiplier": "--multiplier",
    "optional_dimension_keys": "--optional-dimension-key",
    "reason": "--reason",
    "rounding": "--rounding",
    "scopes": "--scope",
    "sheet": "--sheet",
    "source": "--source",
    "starting_after": "--starting-after",
    "thousands": "--thousands",
    "timestamp_column": "--timestamp-column",
    "timestamp_format": "--timestamp-format",
    "timezone": "--timezone",
    "value_column": "--value-column",
    "value_key": "--value-key",
    "withdraw_settlements": "--withdraw-settlements",
    "where": "--where or --without",
    "window": "--window",
}
_ARGUMENT = re.compile(r"""\b([a-z_]+)=(?:'([^']+)'|"([^"]+)"|([0-9]+))""")
_UNQUOTED = re.compile(r"[\w%][\w./:%-]*")
_SENTENCE_END = re.compile(r"(?<=[.!?]) (?=[A-Z])")


def to_cli_text(message: str, field: str | None) -> str:
    """Return an error message in the words of the command line.

    A sentence that names a limit of the policy becomes a sentence that names the option that lifts the limit, and one
    that names calls of the library becomes one with options and commands. The quoted name of a parameter becomes the
    name of its option, and an argument or an example in Python what is typed.
    """
    sentences = _SENTENCE_END.split(message)
    message = " ".join(
        next((hint for words, hint in _HINTS.items() if words in sentence), sentence) for sentence in sentences
    )
    for example, typed in _EXAMPLES.items():
        message = message.replace(example, typed)
    message = _ARGUMENT.sub(_typed_argument, message)
    option = _OPTIONS.get(field or "")
    return message if option is None else message.replace(repr(field), option)


def _typed_argument(match: re.Match[str]) -> str:
    """Return an argument in Python as it is typed, with quotes if the shell needs them."""
    value = match[2] or match[3] or match[4]
    quoted = value if _UNQUOTED.fullmatch(value) else f'"{value}"' if "'" in value else f"'{value}'"
    return f"{_OPTIONS.get(match[1], match[1])} {quoted}"
