"""Signed checkpoints of the ledger, and proofs against them (RFC 6962, C2SP)."""
