"""A headless Chromium, driven by the DevTools protocol over a pair of pipes."""

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.support.processes import PATIENCE_SECONDS, wait_for
from tests.support.requirements import require

OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,1400"),
    "--remote-debugging-pipe",
)
_PIPES_FROM = 10


class Browser:
    """A browser with one page, from `start` to `close`, that notes the page's requests and what it complains about."""

    def __init__(self, folder: Path) -> None:
        """The browser's profile and its output are kept in a folder of its own."""
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._to_browser = self._from_browser = -1
        self._unread = b""
        self._last_id = 0
        self._session: str | None = None
        self.requests: list[str] = []
        """Addresses that the page asked for, but for data that stands in the address itself."""
        self.complaints: list[str] = []
        """Errors and warnings of the console, exceptions, and violations of the page's policy."""

    def start(self) -> "Browser":
        """Start the browser with an empty page."""
        program = shutil.which("chromium")
        require(program is not None, "chromium is not installed")
        theirs_in, self._to_browser = _pipe()
        self._from_browser, theirs_out = _pipe()
        # The browser reads commands from descriptor 3 and writes to 4.
        script = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        command = ["bash", "-c", script, str(program), f"--user-data-dir={self._folder / 'profile'}", *OPTIONS]
        with (self._folder / "chromium.log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs_in, theirs_out),
                start_new_session=True,
            )
        os.close(theirs_in)
        os.close(theirs_out)
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "Audits"):
            self.send(f"{domain}.enable")
        return self

    def close(self) -> None:
        """End the browser and its processes."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(PATIENCE_SECONDS)
            os.close(self._to_browser)
            os.close(self._from_browser)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result.

        Raises:
            AssertionError: if the browser refuses it, ends, or does not answer in time.
        """
        self._last_id += 1
        command = {"id": self._last_id, "method": method, "params": parameters}
        if self._session is not None:
            command["sessionId"] = self._session
        os.write(self._to_browser, json.dumps(command).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (message := self._next(deadline)).get("id") != self._last_id:
            self._note(message)
        assert "error" not in message, f"{method}: {message['error']}"
        result: dict[str, Any] = message["result"]
        return result

    def open(self, url: str) -> None:
        """Open a page."""
        self.send("Page.navigate", url=url)

    def ask(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page; that of a promise once it is there."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        """Return the text of an element once it has some."""
        found = f"document.querySelector({json.dumps(selector)})?.innerText.trim()"
        text: str = wait_for(f"{selector} has a text", lambda: self.ask(found))
        return text

    def click(self, selector: str) -> None:
        """Click on an element once it is there."""
        script = f"(e => e ? (e.click(), true) : false)(document.querySelector({json.dumps(selector)}))"
        wait_for(f"{selector} is there", lambda: self.ask(script))

    def type(self, selector: str, text: str) -> None:
        """Type a text into an element once it is there."""
        script = f"(e => e ? (e.focus(), true) : false)(document.querySelector({json.dumps(selector)}))"
        wait_for(f"{selector} is there", lambda: self.ask(script))
        self.send("Input.insertText", text=text)

    def choose(self, selector: str, value: str) -> None:
        """Choose an option of a list once it has it."""
        chosen = f"(e.value = {json.dumps(value)}, e.dispatchEvent(new Event('change', {{bubbles: true}})), true)"
        known = f"e && [...e.options].some(each => each.value === {json.dumps(value)})"
        script = f"(e => {known} ? {chosen} : false)(document.querySelector({json.dumps(selector)}))"
        wait_for(f"{selector} has {value}", lambda: self.ask(script))

    def screenshot(self, path: Path) -> None:
        """Write a picture of the page."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._from_browser], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            piece = os.read(self._from_browser, 1_000_000)
            assert piece, "the browser has ended"
            self._unread += piece
        message, _, self._unread = self._unread.partition(b"\0")
        parsed: dict[str, Any] = json.loads(message)
        return parsed

    def _note(self, message: dict[str, Any]) -> None:
        method, event = message.get("method", ""), message.get("params", {})
        if method == "Network.requestWillBeSent":
            url = event["request"]["url"]
            self.requests += [] if url.startswith("data:") else [url]
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{event['entry']['text']} {event['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert"):
            self.complaints.append(str([each.get("value", each.get("description")) for each in event["args"]]))
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(event["exceptionDetails"]))
        elif method == "Audits.issueAdded" and event["issue"]["code"] == "ContentSecurityPolicyIssue":
            self.complaints.append(str(event["issue"]))


def _pipe() -> tuple[int, int]:
    """Return the ends of a pipe, beyond the descriptors that the browser is to get."""
    ends = os.pipe()
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _PIPES_FROM) for end in ends)
    for end in ends:
        os.close(end)
    return moved[0], moved[1]
