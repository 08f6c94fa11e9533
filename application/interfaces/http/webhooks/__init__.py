"""Signed webhooks: events, endpoints and their delivery."""
