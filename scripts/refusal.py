"""The one error of these scripts."""


class Refusal(Exception):
    """Why `make up` does not start, in one line for a person."""
