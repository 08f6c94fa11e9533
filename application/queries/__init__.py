"""Queries: everything that only reads."""
