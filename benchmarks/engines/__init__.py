"""The engines that are measured against, by themselves: SQLite, PostgreSQL, DuckDB."""
