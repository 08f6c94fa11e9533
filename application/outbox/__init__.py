"""The outbox: meter events that a host program stores in its own transactions, and the relay to the ledger."""
