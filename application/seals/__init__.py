"""Seals: checkpoints of the ledger, kept outside of it, by which any later change shows."""
