from dataclasses import dataclass


@dataclass
class Clock:
    """A clock that stands still until a test sets `seconds`."""

    seconds: float = 100.0

    def __call__(self) -> float:
        return self.seconds
