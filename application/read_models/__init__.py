"""Read models: building generations and running the projection."""
