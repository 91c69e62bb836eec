"""The greeting of `make up`: the addresses, and a command to paste."""

import asyncio
import json
import shlex
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from headrace.models.made_up import example_row, flat_row
from headrace.models.manifest import Manifest

POLL_SECONDS = 0.25
PATIENCE_SECONDS = 60.0


def sample_row(manifest: Manifest) -> dict[str, Any]:
    """Return an example row of the model, by feature."""
    return flat_row(manifest, example_row(manifest))


def curl_line(gateway: str, row: Mapping[str, Any], with_key: bool = False) -> str:
    """Return a shell command that predicts the row; it takes an API key from a variable."""
    body = json.dumps(row, ensure_ascii=False)
    if not body.isprintable():
        # A terminal would obey or hide a part of it.
        body = json.dumps(row).replace("\x7f", "\\u007f")
    # A proxy can't reach this machine.
    proxy = "" if proxy_bypass(urlsplit(gateway).netloc) or "http" not in getproxies() else " --noproxy '*'"
    key = ' -H "Authorization: Bearer $API_KEY"' if with_key else ""
    json_type = "-H 'Content-Type: application/json'"
    return f"curl -sS{proxy} {gateway}/predict {json_type}{key} -d {shlex.quote(body)} -w '\\n'"


def greeting(addresses: dict[str, str], command: str) -> str:
    """Return the whole greeting."""
    width = max(len(name) for name in addresses)
    lines = [f"  {name:<{width}}  {address}" for name, address in addresses.items()]
    return "\n".join(
        ["", "Headrace is ready.", "", *lines, "", "Paste this:", "", f"  {command}", "", "Ctrl-C stops it.", ""]
    )


def why_not_ready(gateway: str) -> str | None:
    """Return the objection of `/readyz`; None if the service is ready."""
    # No proxy: the gateway is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{gateway}/readyz", timeout=5):
            return None
    except urllib.error.HTTPError as error:
        return f"answers {error.code}: {_detail(error.read(2000))}"
    except OSError as error:
        return f"does not answer: {getattr(error, 'reason', error)}"


def _detail(body: bytes) -> str:
    """Return the `detail` of a problem document, or the body as it is."""
    try:
        problem: Any = json.loads(body)
        return str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        return " ".join(body.decode(errors="replace").split())


async def wait_until_ready(gateway: str, patience_seconds: float = PATIENCE_SECONDS) -> str | None:
    """Wait for `/readyz`; return its last objection if the patience ends before."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_seconds
    while problem := await asyncio.to_thread(why_not_ready, gateway):
        if loop.time() > deadline:
            return problem
        await asyncio.sleep(POLL_SECONDS)
    return None
