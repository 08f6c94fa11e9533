"""Import of usage from files: CSV, JSON, spreadsheets and Parquet."""
