"""Import of usage from CSV, JSON and JSONL files."""
