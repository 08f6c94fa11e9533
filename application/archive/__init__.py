"""The ledger archive: all stored events as Parquet files with the hashes that verify them, and the rules as SQL."""
