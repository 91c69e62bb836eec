"""A DNS server for tests, which knows the records of a zone file."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.support.machines import Machine

KINDS = {"A": 1, "SRV": 33}
MESSAGE_MAX_BYTES = 4096
ANSWER = 0x8580
"""Flags of an answer that the server knows for sure."""
NO_SUCH_NAME = 3


class Zone:
    """Records, written as in a zone file: name, seconds, `IN`, kind, values."""

    def __init__(self, text: str) -> None:
        self._records: dict[tuple[str, int], list[bytes]] = {}
        for line in text.splitlines():
            name, _, _, kind, *values = line.split()
            self._records.setdefault((name, KINDS[kind]), []).append(_encoded(kind, values))

    def answer(self, query: bytes) -> bytes:
        """Return the answer to a message with one question."""
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode().lower())
            at += 1 + query[at]
        name, question = ".".join(labels) + ".", query[12 : at + 5]
        kind, _ = struct.unpack("!HH", question[-4:])
        found = self._records.get((name, kind), [])
        known = any(each == name for each, _ in self._records)
        head = struct.pack("!2sHHHHH", query[:2], ANSWER | (0 if known else NO_SUCH_NAME), 1, len(found), 0, 0)
        # Each answer begins with a pointer to the name in the question.
        return (
            head + question + b"".join(struct.pack("!HHHIH", 0xC00C, kind, 1, 30, len(each)) + each for each in found)
        )


@contextmanager
def serving(zone: Zone, machine: Machine) -> Iterator[None]:
    """Answer queries on port 53 of a machine's loopback."""
    with machine.entered():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with server:
        server.bind(("127.0.0.1", 53))
        thread = threading.Thread(target=_serve, args=(server, zone))
        thread.start()
        try:
            yield
        finally:
            # Shutting the socket down wakes the thread, although a socket without connections has nothing to shut down.
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(server: socket.socket, zone: Zone) -> None:
    while True:
        query, caller = server.recvfrom(MESSAGE_MAX_BYTES)
        if not query:
            return
        server.sendto(zone.answer(query), caller)


def _encoded(kind: str, values: list[str]) -> bytes:
    if kind == "A":
        return socket.inet_aton(values[0])
    *numbers, name = values
    labels = b"".join(bytes([len(each)]) + each.encode() for each in name.rstrip(".").split("."))
    return struct.pack("!HHH", *map(int, numbers)) + labels + b"\0"
