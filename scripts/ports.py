"""The ports of the processes, the variables that set them, and a check that they are free."""

import errno
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace

from scripts.refusal import Refusal

HOST = "127.0.0.1"
HIGHEST = 65535


@dataclass(frozen=True)
class Port:
    """A port, and the variable that sets it."""

    variable: str
    number: int
    purpose: str
    host: str = HOST

    @classmethod
    def read(cls, environ: Mapping[str, str], variable: str, default: int, purpose: str, host: str = HOST) -> "Port":
        """Return the port that the environment names, or the default.

        Raises:
            Refusal: if it names something else.
        """
        return cls(variable, read_number(environ, variable, default), purpose, host)

    @property
    def url(self) -> str:
        """The URL of an HTTP server on this port, for this machine."""
        everywhere = {"0.0.0.0": HOST, "::": "::1"}
        host = everywhere.get(self.host, self.host)
        return f"http://[{host}]:{self.number}" if ":" in host else f"http://{host}:{self.number}"

    def why_not_free(self) -> str | None:
        """Return the reason why nothing could listen there; None if the port is free."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # Servers set this too: connections of an earlier run that are still in TIME_WAIT do no harm.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, self.number))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return "is taken by another program"
                return f"can't be used on {self.host}: {error.strerror}"
            except OverflowError:
                return "does not exist"
        return None

    def next_free(self) -> int | None:
        """Return a higher number that is free, as a suggestion; None if there is none."""
        first = max(self.number + 1, 1024)
        candidates = (replace(self, number=number) for number in range(first, min(first + 100, HIGHEST + 1)))
        return next((port.number for port in candidates if port.why_not_free() is None), None)


def read_number(environ: Mapping[str, str], variable: str, default: int, highest: int = HIGHEST) -> int:
    """Return a number from 1 that the environment names, or the default.

    Raises:
        Refusal: if it names something else.
    """
    text = environ.get(variable) or str(default)
    if not re.fullmatch("[0-9]{1,5}", text) or not 1 <= int(text) <= highest:
        raise Refusal(f"{variable} is not a number from 1 to {highest}")
    return int(text)


def check_free(ports: list[Port]) -> None:
    """Check that every port is free, and that no two are equal.

    Raises:
        Refusal: at the first port that fails; its message names the variable to change.
    """
    seen: dict[int, Port] = {}
    for port in ports:
        other = seen.setdefault(port.number, port)
        if other is not port:
            raise Refusal(
                f"port {port.number} is chosen twice, for {other.purpose} ({other.variable}) "
                f"and for {port.purpose} ({port.variable})"
            )
        problem = port.why_not_free()
        if problem:
            better = port.next_free()
            advice = f"; choose another one: make up {port.variable}={better}" if better else ""
            raise Refusal(f"port {port.number} ({port.purpose}) {problem}{advice}")
