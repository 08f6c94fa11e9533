"""The command `consume`, and the `topic` commands: usage from the topics of a broker that speaks Kafka's protocol."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..formatting import format_number, format_time
from ..stop_signals import stop_on_signals
from .error_text import to_cli_text
from .import_options import TimestampFormatOption
from .option_groups import TableOptions, with_option_groups
from .options import DEFAULT_LEDGER, AnyDigitsOption, BackfillOption, JsonOption, LedgerOption
from .session import open_ledger, record_limits
from .tables import table
from .terminal import say

if TYPE_CHECKING:
    from ...topics.results import ConsumedMessages, RejectedMessage, TopicLag

app = typer.Typer(
    help="Show how far topics are consumed, and what was rejected.", no_args_is_help=True, rich_markup_mode=None
)
TopicArgument = Annotated[str, typer.Argument(metavar="TOPIC", help="The topic of the messages.", show_default=False)]
BrokersOption = Annotated[
    str,
    typer.Option(
        "--brokers", envvar="TALLYBOOK_BROKERS", metavar="HOST:PORT,...", help="The brokers.", show_default=False
    ),
]
GroupOption = Annotated[
    str,
    typer.Option(
        "--group",
        metavar="NAME",
        help="The consumer group: the name under which the ledger stores the offsets. It is not a group of the broker.",
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="Settings of librdkafka, a line KEY=VALUE each: security.protocol=SASL_SSL."
    ),
]
EventNameOption = Annotated[
    str | None, typer.Option(metavar="METER", help="The meter of all messages. Overrides the field event_name.")
]
TimestampColumnOption = Annotated[str, typer.Option(metavar="FIELD", help="The field of the timestamps.")]
ValueColumnOption = Annotated[
    str | None, typer.Option(metavar="FIELD", help="The field to store under the meter's value key.")
]
CustomerColumnOption = Annotated[
    str | None, typer.Option(metavar="FIELD", help="The field to store under the meter's customer key.")
]
IdentifierColumnOption = Annotated[
    str | None, typer.Option(metavar="FIELD", help="The identifier. By default 'identifier' if the message has it.")
]
PayloadColumnOption = Annotated[
    list[str] | None,
    typer.Option("--payload-column", metavar="FIELD[=KEY]", help="A field to store in the payload. Repeatable."),
]
OnceOption = Annotated[bool, typer.Option("--once", help="Record the messages up to the end of the topic, and end.")]
AcceptLossOption = Annotated[
    bool, typer.Option("--accept-loss", help="Go on if the broker has deleted messages before they were read.")
]


def consume(
    topic: TopicArgument,
    brokers: BrokersOption,
    group: GroupOption = "tallybook",
    config: ConfigOption = None,
    once: OnceOption = False,
    accept_loss: AcceptLossOption = False,
    event_name: EventNameOption = None,
    timestamp_column: TimestampColumnOption = "timestamp",
    timestamp_format: TimestampFormatOption = "auto",
    value_column: ValueColumnOption = None,
    customer_column: CustomerColumnOption = None,
    identifier_column: IdentifierColumnOption = None,
    payload_column: PayloadColumnOption = None,
    backfill: BackfillOption = False,
    any_digits: AnyDigitsOption = False,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Record the usage in the messages of a topic.

    A message is an object in JSON, as a line of a JSONL file that is imported, or a CloudEvent. The offsets are stored
    with the meter events, so that each message counts once, even if the consumer, the broker or the database is killed
    at any time. The command runs until Ctrl-C or SIGTERM. Several can run: one is active, and another takes over.

    A message that is rejected is stored with the reason, and holds up no other. With --once, the exit status is 1 if
    there was one.
    """
    with open_ledger(ledger, as_json, lift=record_limits(backfill, any_digits)) as session:
        from ...topics.consumer import TopicConsumer  # noqa: PLC0415 - loads the domain
        from ...usage_import.read_options import row_format_of  # noqa: PLC0415

        row_format = row_format_of(
            event_name=event_name,
            timestamp_column=timestamp_column,
            timestamp_format=timestamp_format,
            value_column=value_column,
            customer_column=customer_column,
            identifier_column=identifier_column,
            payload_columns=payload_column or [],
        )
        consumer = TopicConsumer(
            session.metering, topic, brokers, group=group, row_format=row_format, settings=_read_settings(config),
            accept_loss=accept_loss,
        )  # fmt: skip
        with stop_on_signals() as stop:
            if once:
                result = consumer.consume(stop=stop)
                session.confirm(result, show_consumed)
                raise typer.Exit(1 if result.rejected else 0)
            consumer.run(
                stop,
                on_batch=lambda consumed: session.confirm(consumed, show_consumed),
                on_unavailable=lambda error: session.print_problem(error.code, f"{error.message} Trying again."),
            )


@app.command()
@with_option_groups
def lag(ledger: LedgerOption = DEFAULT_LEDGER, *, output: TableOptions) -> None:
    """Show the next offset of each partition, and how many messages wait.

    The end of a partition is the one that the consumer has seen in the last seconds.
    """
    with open_ledger(ledger, output.as_json) as session:
        from ...topics.offset_log import read_lags  # noqa: PLC0415 - loads the domain

        lags = read_lags(session.metering.key_value_store())
        session.print(lags, output.show(show_lags, lambda tables: tables.topic_lags))


@app.command("rejected")
@with_option_groups
def list_rejected(ledger: LedgerOption = DEFAULT_LEDGER, *, output: TableOptions) -> None:
    """List the messages that were not recorded, with the errors.

    Of each partition and UTC day the first 1,000 are stored, for 35 days.
    """
    with open_ledger(ledger, output.as_json) as session:
        from ...topics.offset_log import read_rejected  # noqa: PLC0415 - loads the domain

        messages = read_rejected(session.metering.key_value_store())
        session.print(messages, output.show(show_rejected, lambda tables: tables.rejected_messages))


def show_consumed(consumed: "ConsumedMessages") -> None:
    """Print the number of messages by outcome."""
    accepted, duplicates, rejected = map(format_number, (consumed.accepted, consumed.duplicates, consumed.rejected))
    say(f"consumed: {accepted} accepted, {duplicates} duplicates, {rejected} rejected")


def show_lags(lags: "Sequence[TopicLag]") -> None:
    """Print a line for each partition."""
    if not lags:
        say("No topics were consumed.")
        return
    numbers = ("partition", "next offset", "lag", "accepted", "duplicates", "rejected")
    rows = [
        (lag.topic, lag.group, *map(format_number, (lag.partition, lag.next_offset, lag.lag, lag.accepted,
         lag.duplicates, lag.rejected)), format_time(lag.read_at.replace(microsecond=0)))
        for lag in lags
    ]  # fmt: skip
    table(("topic", "group", *numbers, "read at"), rows, right=numbers, whole=("read at",))


def show_rejected(messages: "Sequence[RejectedMessage]") -> None:
    """Print a line for each message."""
    if not messages:
        say("No rejected messages.")
        return
    rows = [
        (message.topic, format_number(message.partition), format_number(message.offset), message.code,
         to_cli_text(message.message, None), message.value[:200])
        for message in messages
    ]  # fmt: skip
    table(
        ("topic", "partition", "offset", "code", "message", "value"), rows, right=("partition", "offset"),
        whole=("code",),
    )  # fmt: skip


def _read_settings(file: Path | None) -> dict[str, str]:
    """Return the settings in a file of lines KEY=VALUE. Raise BadParameter."""
    from ....domain.errors import InvalidParameter  # noqa: PLC0415 - loads the domain
    from ...topics.client_settings import read_client_settings  # noqa: PLC0415

    try:
        return {} if file is None else read_client_settings(file)
    except InvalidParameter as error:
        raise typer.BadParameter(error.message, param_hint="'--config'") from None
