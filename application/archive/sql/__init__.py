"""The counting rules as SQL: statements that other engines run on the stored events, with the ledger's own results."""
