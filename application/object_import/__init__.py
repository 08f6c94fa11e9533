"""Import of usage from the objects of an object store, each object once."""
