"""How much is made up, and from what: environment variables that `make fuzz` sets."""

EXAMPLES = "FUZZ_EXAMPLES"
"""Requests for each operation and phase of schemathesis."""

SEED = "FUZZ_SEED"
"""What schemathesis makes them up from."""

FACTOR = "FUZZ_FACTOR"
"""So many times the examples of Hypothesis, and other ones each time."""
