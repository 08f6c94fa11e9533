"""The environment variables of the command line and the server. A misspelt one is an error, or it would be ignored.

A program that embeds a ledger does not call this: its environment is its own.
"""

import re
from collections.abc import Iterable, Mapping

PREFIX, NESTED_DELIMITER = "TALLYBOOK_", "__"
VARIABLES = frozenset(
    PREFIX + name
    for name in (
        "LEDGER",
        "MAX_PROCESSES",
        "BROKERS",
        "OUTBOX",
        "OUTBOX_TABLE",
        "HOST",
        "PORT",
        "WORKERS",
        "ACCESS_LOG",
        "ACCESS_LOG_CUSTOMERS",
        "ACCESS_LOG_FILE",
        "CONSOLE",
        "CONSOLE_CHECKPOINTS",
        "CONSOLE_EMBED_ORIGINS",
        "CONSOLE_URL",
        "MAX_CONNECTIONS",
        "MAX_HEADERS",
        "MAX_HEADER_BYTES",
        "HEADER_TIMEOUT_SECONDS",
        "MAX_BODY_BYTES",
        "BODY_TIMEOUT_SECONDS",
        "QUERY_TIMEOUT_SECONDS",
        "KEEP_ALIVE_SECONDS",
        "DRAIN_TIMEOUT_SECONDS",
        "RETENTION_INTERVAL_SECONDS",
        "PROJECTION",
        "POLICY",
        "POLICY__MAX_AGE",
        "POLICY__MAX_AHEAD",
        "POLICY__MAX_CLOCK_DELAY",
        "POLICY__CANCEL_WINDOW",
        "POLICY__GRACE_PERIOD",
        "POLICY__MAX_CUSTOMER_COMBINATIONS",
        "POLICY__MAX_DIGITS",
        "POLICY__MAX_METER_COMBINATIONS",
        "ARCHIVE",
        "ARCHIVE__CHECKPOINTS",
        "ARCHIVE__CHECKPOINT_KEYS",
        "ARCHIVE__DESTINATION",
        "ARCHIVE__INTERVAL_SECONDS",
        "ARCHIVE__KEEP_DAYS",
        "ARCHIVE__PRUNE_INTERVAL_SECONDS",
        "CHECKPOINT",
        "CHECKPOINT__DESTINATIONS",
        "CHECKPOINT__INTERVAL_SECONDS",
        "CHECKPOINT__KEY",
        "CHECKPOINT__MAX_AGE_SECONDS",
        "CHECKPOINT__NAME",
        "CHECKPOINT__PREVIOUS_KEYS",
        "CHECKPOINT__VERIFY_INTERVAL_SECONDS",
        "CONSUMERS",
        "IMPORTS",
        "WEBHOOKS",
        "WEBHOOKS__ALLOWED_NETWORKS",
        "WEBHOOKS__SOURCE",
        "WEBHOOKS__WINDOW_SECONDS",
        "WEBHOOKS__POLL_INTERVAL_SECONDS",
        "WEBHOOKS__TIMEOUT_SECONDS",
        "WEBHOOKS__INITIAL_RETRY_SECONDS",
        "WEBHOOKS__MAX_RETRY_SECONDS",
        "WEBHOOKS__RETRY_WINDOW_SECONDS",
        "WEBHOOKS__LEADER_CHECK_INTERVAL_SECONDS",
    )
)
"""All variables. The settings of the server are repeated here, because a command must start without its packages."""
_COLUMN_SETTINGS = (
    "EVENT_NAME",
    "TIMESTAMP_COLUMN",
    "TIMESTAMP_FORMAT",
    "VALUE_COLUMN",
    "CUSTOMER_COLUMN",
    "IDENTIFIER_COLUMN",
    "PAYLOAD_COLUMNS",
)
NAMED_GROUPS = {
    "CONSUMERS": frozenset((*_COLUMN_SETTINGS, "TOPIC", "BROKERS", "GROUP", "CONFIG")),
    "IMPORTS": frozenset(
        (
            *_COLUMN_SETTINGS, "URL", "INTERVAL_SECONDS", "MAX_AGE_SECONDS", "SOURCE", "DATE_FORMAT", "TIMEZONE",
            "DECIMAL", "THOUSANDS", "CUSTOMER", "IDENTIFIER_PREFIX", "FORMAT", "ENCODING", "DELIMITER", "HEADER_ROW",
            "SHEET", "MAX_BYTES", "MAX_ROWS",
        )
    ),
}  # fmt: skip
"""The variables of imports and consumers, which have a name: TALLYBOOK_IMPORTS__NAME__URL."""
_NOT_SETTINGS = re.compile(
    r"TALLYBOOK_(?:TEST_.*"  # of this project's tests
    r"|SERVICE_HOST|SERVICE_PORT(?:_.*)?|PORT_\d+_.*)"  # Kubernetes sets them if a Service is called `tallybook`
)


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return a message for each variable that starts with TALLYBOOK_ and is not a setting, without its value."""
    names = sorted(name for name in environment if name.upper().startswith(PREFIX))
    variables = VARIABLES | _named_variables(names)
    unknown = [name for name in names if name.upper() not in variables and not _NOT_SETTINGS.fullmatch(name)]
    if not unknown:
        return []
    from ..similar_names import suggest_names  # noqa: PLC0415 - start-up time of every command

    return [
        f"{name}: there is no such setting.{suggest_names('settings', name.upper(), sorted(variables))}"
        for name in unknown
    ]


def _named_variables(names: Iterable[str]) -> set[str]:
    """Return all variables of the imports and consumers of which one of the names is a variable, or a misspelt one."""
    variables: set[str] = set()
    for name in names:
        group, *rest = name.upper().removeprefix(PREFIX).split(NESTED_DELIMITER)
        if group in NAMED_GROUPS and len(rest) == 2:  # noqa: PLR2004 - the name and the setting
            prefix = NESTED_DELIMITER.join((PREFIX + group, rest[0]))
            variables.update(f"{prefix}{NESTED_DELIMITER}{setting}" for setting in NAMED_GROUPS[group])
    return variables
