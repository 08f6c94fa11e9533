"""Running the server: settings, worker processes, connection limits and logging."""
