"""Numbers as arguments; argparse names the functions in its errors."""

import argparse


def count(text: str) -> int:
    """Parse a whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def seconds(text: str) -> float:
    """Parse a number of seconds from a thousandth to a million."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.001 <= number <= 1_000_000:
        raise argparse.ArgumentTypeError(f"a number of seconds from 0.001 to 1000000, and not {text!r}")
    return number


def share(text: str) -> float:
    """Parse a number above 0 and at most 1."""
    number = float(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError("above 0, and at most 1")
    return number
