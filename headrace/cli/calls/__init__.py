"""The commands for callers of a gateway."""
