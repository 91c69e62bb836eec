"""Request bodies: of the right media type, not too large, and not too many at once."""

from collections.abc import Collection, Mapping

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from gateway.fairness.budget import Budget, Share
from gateway.problems import Problem, overloaded

JSON = b"application/json"

GZIP = (b"gzip", b"x-gzip")
"""Names of the content coding that a body may have."""

SMALL_BYTES = 65_536
"""Size up to which a body, or the rows of one, may have all of the limit; a few large requests leave others room."""

LARGE_SHARE = 0.75
"""Share of the limit that larger ones may have."""


def declared_bytes(length: bytes) -> int:
    """Return the value of a `Content-Length` of digits; 20 digits exceed every limit, and no more are read."""
    return int(length if len(length) < 20 else length.lstrip(b"0")[:20] or b"0")


class BodyReader:
    """A reader of request bodies with a limit on the bytes held in this process.

    Bodies that are still arriving count against the limit, and bodies whose requests are not answered yet, with the
    rows that were read from them. An owner of API keys may have half of it.
    """

    def __init__(self, max_bytes: int, all_max_bytes: int) -> None:
        self.max_bytes = max_bytes
        """Longest body."""
        self._budget = Budget(all_max_bytes)
        self._large_max_bytes = int(all_max_bytes * LARGE_SHARE)

    @property
    def held_bytes(self) -> int:
        """Bytes of bodies that are arriving or whose requests are not answered yet, and of their rows."""
        return self._budget.held

    def hold(self, size: int, held: int = 0, owner: str = "") -> None:
        """Count a complete body until `release`, or the rows of one that counts `held` bytes already.

        A request that is alone is never too large, nor is the only one of its owner because of the owner's half.

        Raises:
            Problem: 503 if the limit would be exceeded.
        """
        budget = self._budget
        share = budget.share_of(owner)
        if budget.counted + size >= budget.half and not self._has_room(share, held + size, held):
            raise overloaded("bodies_full", "too many large requests are being answered", 2)
        share.add(size)

    def release(self, size: int, owner: str = "") -> None:
        """Take a body off the count: its request was answered."""
        self._budget.share_of(owner).add(-size)

    def check(self, headers: Mapping[bytes, bytes], media_types: Collection[bytes] = (JSON,)) -> None:
        """Check by the headers of a request, names in lower case, that its body is acceptable.

        Raises:
            Problem: 415 if the body is not declared as one of the media types, or is compressed, 413 if it is declared
                too large.
        """
        media_type = headers.get(b"content-type", b"")
        if media_type not in media_types and media_type.partition(b";")[0].strip().lower() not in media_types:
            raise _not_of(media_types)
        coding = headers.get(b"content-encoding")
        if coding is not None and coding.strip().lower() not in (b"", b"identity", *GZIP):
            raise Problem(415, "unsupported_media_type", "send it as gzip or as it is", {"Accept-Encoding": "gzip"})
        length = headers.get(b"content-length", b"")
        # A body that declares itself too large is refused unread.
        if length.isdigit() and declared_bytes(length) > self.max_bytes:
            raise self._too_large()

    async def read(
        self,
        headers: Mapping[bytes, bytes],
        receive: Receive,
        owner: str = "",
        media_types: Collection[bytes] = (JSON,),
    ) -> bytes:
        """Read the body of an owner's request with these headers, names in lower case.

        Raises:
            Problem: if `check` does, 413 if it is too large, 503 if too many bytes are arriving.
            ClientDisconnect: if the caller left.
        """
        self.check(headers, media_types)
        body, more = await _next(receive)
        if len(body) > self.max_bytes:
            raise self._too_large()
        return await self._rest(body, receive, self._budget.share_of(owner)) if more else body

    async def _rest(self, first: bytes, receive: Receive, share: Share) -> bytes:
        chunks, size, more = [first], len(first), True
        share.add(size)
        try:
            while more:
                if not self._has_room(share, size, size):
                    raise overloaded("bodies_full", "too many large bodies are arriving", 2)
                chunk, more = await _next(receive)
                chunks.append(chunk)
                size += len(chunk)
                share.add(len(chunk))
                if size > self.max_bytes:
                    raise self._too_large()
            return b"".join(chunks)
        finally:
            share.add(-size)

    def _has_room(self, share: Share, size: int, held: int) -> bool:
        """Return True if a request of this size, which holds some of it already, has room beside the others."""
        return share.has_room(size, held, None if size <= SMALL_BYTES else self._large_max_bytes)

    def _too_large(self) -> Problem:
        return Problem(413, "too_large", f"the body is larger than {self.max_bytes} bytes")


def _not_of(media_types: Collection[bytes]) -> Problem:
    """Return the refusal of a body that is not of one of these media types."""
    names = [name.decode() for name in media_types if name]
    detail = f"send {' or '.join(filter(None, [', '.join(names[:-1]), names[-1]]))}"
    return Problem(415, "unsupported_media_type", detail, {"Accept": ", ".join(names)})


async def _next(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)
