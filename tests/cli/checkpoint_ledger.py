"""A ledger with a checkpoint, for the tests of commands that verify."""

from pathlib import Path

from .command_line import CommandLine

CHECKPOINTS = ("--checkpoints", "usage.checkpoints")


def ledger_with_checkpoint(folder: Path) -> CommandLine:
    """Return a ledger of three events with a checkpoint in the file of CHECKPOINTS, in the present folder."""
    line = CommandLine(folder)
    line.run("meter", "configure", "tokens", "--customer-key", "customer", "--value-key", "tokens")
    for number in (2, 3):
        line.run("record", "tokens", "customer=acme", f"tokens={number}", "--identifier", f"req-{number}")
    line.run("checkpoint", "create", *CHECKPOINTS)
    return line
