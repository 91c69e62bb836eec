"""The HTTP contract, a module per resource."""
