"""Jobs: work that repeats by itself, such as checkpoints, exports and retention."""
