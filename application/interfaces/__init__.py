"""The interfaces of the application: the command line and the HTTP API."""
