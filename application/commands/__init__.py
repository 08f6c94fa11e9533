"""Commands: everything that changes the ledger."""
