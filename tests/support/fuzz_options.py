"""Environment variables by which `make fuzz` says how many inputs to generate, and from which seed."""

EXAMPLES = "FUZZ_EXAMPLES"
"""Requests for each operation and phase of schemathesis."""

SEED = "FUZZ_SEED"
"""Seed of schemathesis."""

FACTOR = "FUZZ_FACTOR"
"""Factor for the number of Hypothesis' examples; above 1 they also differ from run to run."""
