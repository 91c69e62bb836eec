"""Dynamic batching: rows of many callers leave as one batch when a slot is free."""
