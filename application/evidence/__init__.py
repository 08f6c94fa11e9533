"""Evidence packs: the totals of one customer, with all that is needed to check them without the ledger."""
