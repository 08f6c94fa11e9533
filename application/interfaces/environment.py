"""The environment variables of the command line and the server. A misspelt one is an error, or it would be ignored.

A program that embeds a ledger does not call this: its environment is its own.
"""

import re
from collections.abc import Mapping

PREFIX = "TALLYBOOK_"
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
        "CONSOLE",
        "CONSOLE_CHECKPOINTS",
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
        "ARCHIVE__DESTINATION",
        "ARCHIVE__INTERVAL_SECONDS",
        "CHECKPOINT",
        "CHECKPOINT__DESTINATIONS",
        "CHECKPOINT__INTERVAL_SECONDS",
        "CHECKPOINT__KEY",
        "CHECKPOINT__MAX_AGE_SECONDS",
        "CHECKPOINT__NAME",
        "CHECKPOINT__PREVIOUS_KEYS",
        "CHECKPOINT__VERIFY_INTERVAL_SECONDS",
        "WEBHOOKS",
        "WEBHOOKS__ALLOWED_NETWORKS",
        "WEBHOOKS__WINDOW_SECONDS",
        "WEBHOOKS__POLL_INTERVAL_SECONDS",
        "WEBHOOKS__TIMEOUT_SECONDS",
        "WEBHOOKS__INITIAL_RETRY_SECONDS",
        "WEBHOOKS__MAX_RETRY_SECONDS",
        "WEBHOOKS__RETRY_WINDOW_SECONDS",
        "WEBHOOKS__LEADER_CHECK_INTERVAL_SECONDS",
        "WEBHOOKS__PURGE_INTERVAL_SECONDS",
    )
)
"""All variables. The settings of the server are repeated here, because a command must start without its packages."""
_NOT_SETTINGS = re.compile(
    r"TALLYBOOK_(?:TEST_.*"  # of this project's tests
    r"|SERVICE_HOST|SERVICE_PORT(?:_.*)?|PORT_\d+_.*)"  # Kubernetes sets them if a Service is called `tallybook`
)


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return a message for each variable that starts with TALLYBOOK_ and is not a setting, without its value."""
    names = sorted(name for name in environment if name.upper().startswith(PREFIX))
    unknown = [name for name in names if name.upper() not in VARIABLES and not _NOT_SETTINGS.fullmatch(name)]
    if not unknown:
        return []
    from ..similar_names import suggest_names  # noqa: PLC0415 - start-up time of every command

    return [
        f"{name}: there is no such setting.{suggest_names('settings', name.upper(), sorted(VARIABLES))}"
        for name in unknown
    ]
