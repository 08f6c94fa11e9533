"""The event-sourced application: aggregates, stored events and their mapper."""
