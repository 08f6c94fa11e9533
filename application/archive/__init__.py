"""The ledger archive: all stored events as Parquet files that other engines read, with the hashes that verify them."""
