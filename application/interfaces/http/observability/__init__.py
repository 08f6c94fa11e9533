"""Access log, metrics and health checks of the server."""
