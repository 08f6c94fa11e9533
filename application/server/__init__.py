"""The ledger over HTTP, wire-compatible with Stripe's billing meters."""
