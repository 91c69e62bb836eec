"""Compressed bodies: requests are unpacked within a limit, large answers packed for callers who accept that."""

import asyncio
import zlib
from collections.abc import Mapping
from functools import lru_cache

from gateway.edge.headers import HeaderPairs
from gateway.fairness.answers import PIECE_BYTES
from gateway.fairness.bodies import GZIP
from gateway.problems import Problem

_GZIP = 16 + zlib.MAX_WBITS
_LEVEL = 1
"""zlib's fastest level: the others take three times the time for a twelfth less of a prediction's JSON."""

ACCEPT_MAX_BYTES = 200
"""Bytes of an `Accept-Encoding` that is read; those of browsers are shorter."""


async def unpacked(headers: Mapping[bytes, bytes], body: bytes, most: int) -> bytes:
    """Return the content of a body: of gzip what a thread unpacks, since a few bytes may become many.

    Raises:
        Problem: 400 if it is not one complete gzip member, 413 if the content is larger than `most` bytes.
    """
    if b"content-encoding" not in headers or headers[b"content-encoding"].strip().lower() not in GZIP:
        return body
    unpacker = zlib.decompressobj(_GZIP)
    try:
        content = await asyncio.to_thread(unpacker.decompress, body, most + 1)
    except zlib.error:
        content = b""
    if len(content) > most:
        raise Problem(413, "too_large", f"the body is larger than {most} bytes when it is unpacked")
    if not unpacker.eof or unpacker.unused_data:
        raise Problem(400, "invalid_encoding", "the body is not gzip, or not complete")
    return content


class AnswerPacker:
    """A packer of large answers.

    Those that fit into one piece are sent as they are: packing one of 64 KiB takes longer than sending it in a data
    center. A thread packs one answer at a time; an answer that comes meanwhile is sent as it is, and does not wait.
    """

    def __init__(self) -> None:
        self._busy = False

    async def pack(
        self, request_headers: Mapping[bytes, bytes], headers: HeaderPairs, body: bytes
    ) -> tuple[HeaderPairs, bytes]:
        """Return the headers and the body of an answer, packed if its caller accepts that and it is worth the time."""
        accepted = request_headers.get(b"accept-encoding", b"")
        if len(body) <= PIECE_BYTES or self._busy or not accepts_gzip(accepted) or not _is_text(headers):
            return headers, body
        self._busy = True
        try:
            body = await asyncio.to_thread(_packed, body)
        finally:
            self._busy = False
        kept = [header for header in headers if header[0] not in (b"content-length", b"vary")]
        varies = [value for name, value in headers if name == b"vary"]
        added = [
            (b"content-length", b"%d" % len(body)),
            (b"content-encoding", b"gzip"),
            (b"vary", b", ".join([*varies, b"accept-encoding"])),
        ]
        return [*kept, *added], body


def _packed(body: bytes) -> bytes:
    packer = zlib.compressobj(_LEVEL, wbits=_GZIP)
    return packer.compress(body) + packer.flush()


def accepts_gzip(header: bytes) -> bool:
    """Return True if a value of `Accept-Encoding` (RFC 9110, section 12.5.3) admits gzip."""
    return len(header) <= ACCEPT_MAX_BYTES and _accepts_gzip(header)


@lru_cache(maxsize=64)
def _accepts_gzip(header: bytes) -> bool:
    weights: dict[bytes, bool] = {}
    for coding in header.lower().split(b","):
        name, *parameters = [part.strip() for part in coding.split(b";")]
        weights[name] = not any(part[:2] == b"q=" and not part[2:].strip(b"0.") for part in parameters)
    return weights.get(b"gzip", weights.get(b"*", False))


def _is_text(headers: HeaderPairs) -> bool:
    """Return True for media types that gzip makes smaller: those of numbers as bytes hardly become."""
    found = dict(headers)
    media_type = found.get(b"content-type", b"").partition(b";")[0]
    is_text = media_type.startswith(b"text/") or media_type.endswith((b"json", b"javascript"))
    return is_text and b"content-encoding" not in found
