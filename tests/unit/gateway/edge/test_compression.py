import asyncio
import gzip
import json
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from gateway.edge.compression import ACCEPT_MAX_BYTES, AnswerPacker, accepts_gzip, unpacked
from gateway.edge.headers import HeaderPairs
from gateway.fairness.answers import PIECE_BYTES
from gateway.problems import Problem
from tests.support.connections import started
from tests.support.coroutines import run
from tests.support.lone_gateway import lone_gateway
from tests.support.manifests import classifier

MANIFEST = classifier()
ROW = {"length": 1.0, "width": 2.0}
GZIP = {b"content-encoding": b"gzip"}
ACCEPTS = {b"accept-encoding": b"gzip, deflate, br"}
LARGE = b'{"predictions":[' + b"1," * PIECE_BYTES + b"1]}"
JSON_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(LARGE))]


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    """A gateway whose Redis is a port on which nobody listens."""
    return lone_gateway(tmp_path, body_max_bytes=100_000)


BODIES = {
    "a row": (gzip.compress(json.dumps(ROW).encode()), 503, "broker_unavailable"),
    "many rows": (gzip.compress(json.dumps({"instances": [ROW] * 2_000}).encode()), 503, "broker_unavailable"),
    "half a row": (gzip.compress(b'{"length": 1.0}'), 422, "invalid_rows"),
    "no JSON": (gzip.compress(b"{"), 400, "invalid_json"),
    "no gzip": (json.dumps(ROW).encode(), 400, "invalid_encoding"),
    "cut short": (gzip.compress(json.dumps(ROW).encode())[:-1], 400, "invalid_encoding"),
    "a byte too many": (gzip.compress(json.dumps(ROW).encode()) + b"\0", 400, "invalid_encoding"),
    "two members": (gzip.compress(b"") * 2, 400, "invalid_encoding"),
    "no body": (b"", 400, "invalid_encoding"),
    "a byte above the limit": (gzip.compress(b" " * 100_001), 413, "too_large"),
    "a bomb": (gzip.compress(b" " * 50_000_000), 413, "too_large"),
}


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("body", "status", "code"), BODIES.values(), ids=[*BODIES])
def test_a_gzip_body_is_read_within_the_limits_of_others(app: FastAPI, body: bytes, status: int, code: str) -> None:
    async def asking() -> httpx.Response:
        async with started(app) as client:
            headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
            return await client.post("/predict", content=body, headers=headers)

    response = run(asking())

    assert (response.status_code, response.json()["type"]) == (status, f"urn:headrace:problem:{code}")


def test_a_body_without_a_coding_is_left_alone() -> None:
    body = gzip.compress(b"{}")

    assert run(unpacked({}, body, 1)) is body
    assert run(unpacked({b"content-encoding": b"identity"}, body, 1)) is body
    assert run(unpacked({b"content-encoding": b" GZip "}, body, 2)) == b"{}"


def test_a_body_may_have_as_many_bytes_as_the_limit() -> None:
    assert run(unpacked(GZIP, gzip.compress(b"x" * 1000), 1000)) == b"x" * 1000
    with pytest.raises(Problem, match="larger than 999 bytes when it is unpacked"):
        run(unpacked(GZIP, gzip.compress(b"x" * 1000), 999))


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        (b"gzip", True),
        (b"GZIP", True),
        (b"br, gzip;q=0.5", True),
        (b"*", True),
        (b"gzip;q=1.000", True),
        (b"", False),
        (b"identity", False),
        (b"br", False),
        (b"gzip;q=0", False),
        (b"gzip ; q=0.000", False),
        (b"gzip;q=0, *", False),
        (b"*;q=0", False),
        (b"gzipped", False),
        (b"gzip," + b" " * ACCEPT_MAX_BYTES, False),
    ],
)
def test_only_callers_who_accept_gzip_get_it(header: bytes, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted


def packed(headers: HeaderPairs, body: bytes, request_headers: dict[bytes, bytes]) -> tuple[dict[bytes, bytes], bytes]:
    found, content = run(AnswerPacker().pack(request_headers, headers, body))
    return dict(found), content


def test_a_large_answer_is_packed() -> None:
    headers, content = packed(JSON_HEADERS, LARGE, ACCEPTS)

    assert gzip.decompress(content) == LARGE
    assert headers == {
        b"content-type": b"application/json",
        b"content-length": b"%d" % len(content),
        b"content-encoding": b"gzip",
        b"vary": b"accept-encoding",
    }


def test_a_packed_answer_varies_by_what_it_did_before_too() -> None:
    headers, _ = packed([*JSON_HEADERS, (b"vary", b"origin")], LARGE, ACCEPTS)

    assert headers[b"vary"] == b"origin, accept-encoding"


@pytest.mark.parametrize(
    ("headers", "body", "request_headers"),
    [
        (JSON_HEADERS, LARGE, {}),
        (JSON_HEADERS, b"x" * PIECE_BYTES, ACCEPTS),
        ([(b"content-type", b"application/octet-stream")], LARGE, ACCEPTS),
        ([*JSON_HEADERS, (b"content-encoding", b"gzip")], LARGE, ACCEPTS),
    ],
)
def test_what_gains_nothing_is_sent_as_it_is(
    headers: HeaderPairs, body: bytes, request_headers: dict[bytes, bytes]
) -> None:
    assert packed(headers, body, request_headers) == (dict(headers), body)


def test_an_answer_does_not_wait_for_another_to_be_packed() -> None:
    packer = AnswerPacker()

    async def three() -> list[bytes]:
        both = await asyncio.gather(*[packer.pack(ACCEPTS, JSON_HEADERS, LARGE) for _ in range(2)])
        return [body for _, body in [*both, await packer.pack(ACCEPTS, JSON_HEADERS, LARGE)]]

    first, second, third = run(three())

    assert second == LARGE
    assert gzip.decompress(first) == gzip.decompress(third) == LARGE
