"""Webhooks: what happens is told to whoever asked for it, signed, and again until they have it."""
