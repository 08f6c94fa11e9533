"""The HTTP operations, one file per resource."""
