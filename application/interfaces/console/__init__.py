"""The console: pages that show usage and why a total is what it is, rendered by the server."""
