"""What is seen of a server from outside: whether it is ready, what it counts, and whom it answered."""
