"""The error of `make up`."""


class Refusal(Exception):
    """The reason why `make up` does not start, in one line for a person."""
