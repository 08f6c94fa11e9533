"""Access keys: their text format, authentication and views."""
