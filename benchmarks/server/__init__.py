"""Benchmarks of the server under load, compared with the rate limits that Stripe publishes."""
