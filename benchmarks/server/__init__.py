"""The server under load, against the limits that Stripe publishes."""
