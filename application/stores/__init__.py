"""Where a ledger and its read models are kept."""
