"""Drive a headless Chromium through its DevTools protocol, with the standard library only.

The tests of the report's pages and the script that photographs them use it. No page of these ever needs the network,
so the browser gets none: every name resolves to nothing.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Without a GPU, WebGL is computed on the CPU
_FLAGS = (
    "--headless=new", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--hide-scrollbars", "--no-first-run", "--disable-extensions", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-port=0", "--force-device-scale-factor=1",
)  # fmt: skip
_TEXT, _CONTINUED, _CLOSED = 1, 0, 8


def find_chromium() -> str | None:
    """Return the browser's path, or None where none is installed."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Page:
    """One tab: commands out, events in.

    Attributes:
        errors: What went wrong in the page: exceptions, console errors, requests that were refused.
        requests: Addresses that the page asked for.
    """

    def __init__(self, address: str, *, seconds: float) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._number = 0
        self._seconds = seconds
        parts = urlsplit(address)
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=seconds)
        self._stream = self._socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while self._stream.readline() not in {b"\r\n", b""}:
            pass
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; events that come in between are kept."""
        self._number += 1
        self._send(json.dumps({"id": self._number, "method": method, "params": parameters}).encode())
        while True:
            message = json.loads(self._receive())
            if message.get("id") == self._number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self._note(message)

    def open(self, address: str) -> None:
        """Go to an address and wait until the page is loaded."""
        self.command("Page.navigate", url=address)
        self.wait_for(f"location.href === {json.dumps(address)} && document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; a promise is awaited."""
        answer = self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {_exception(answer['exceptionDetails'])}")
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Wait until a JavaScript condition holds."""
        end = time.monotonic() + self._seconds
        while not self.evaluate(condition):
            if time.monotonic() > end:
                raise TimeoutError(f"after {self._seconds} s still not: {condition}. The page's errors: {self.errors}")
            time.sleep(0.05)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """Press, release, move or turn the wheel ("mousePressed", ..., "mouseWheel") at a place of the window."""
        self.command("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def press(self, key: str) -> None:
        """Press and release a key, such as "ArrowRight"."""
        code = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9}.get(key, 0)
        for kind in ("rawKeyDown", "keyUp"):
            self.command("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def screenshot(self, *, whole: bool = False) -> bytes:
        """Return a PNG of the window, or of the whole page."""
        answer = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(answer["data"])

    def pdf(self) -> bytes:
        """Return the page as it would be printed on A4."""
        answer = self.command("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, preferCSSPageSize=True)
        return base64.b64decode(answer["data"])

    def resize(self, width: int, height: int) -> None:
        """Give the window another size, in pixels."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    def _note(self, message: dict[str, Any]) -> None:
        method, content = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(_exception(content["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and content["type"] == "error":
            self.errors.append(" ".join(str(each.get("value", each.get("description"))) for each in content["args"]))
        elif method == "Log.entryAdded" and content["entry"]["level"] == "error":
            self.errors.append(content["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(content["request"]["url"])

    def _send(self, content: bytes) -> None:
        mask = os.urandom(4)
        size = len(content)
        if size < 126:
            head = struct.pack("!BB", 0x80 | _TEXT, 0x80 | size)
        elif size < 2**16:
            head = struct.pack("!BBH", 0x80 | _TEXT, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | _TEXT, 0x80 | 127, size)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(content))
        self._socket.sendall(head + mask + masked)

    def _receive(self) -> bytes:
        content = b""
        while True:
            first, second = self._read(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", self._read(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", self._read(8))
            part = self._read(size)
            kind = first & 0x0F
            if kind == _CLOSED:
                raise ConnectionError("the browser closed the connection")
            if kind in {_TEXT, _CONTINUED}:
                content += part
                if first & 0x80:
                    return content

    def _read(self, size: int) -> bytes:
        found = self._stream.read(size)
        if len(found) < size:
            raise ConnectionError("the browser ended")
        return found


def _exception(details: dict[str, Any]) -> str:
    return str((details.get("exception") or {}).get("description") or details.get("text"))


@contextmanager
def chromium(*, width: int = 1280, height: int = 1000, seconds: float = 60) -> Iterator[Page]:
    """Start a browser with a profile of its own, yield its one tab, and end it.

    Args:
        width: Of the window, in pixels.
        height: Of the window, in pixels.
        seconds: How long a start, an answer or a condition is waited for.

    Raises:
        FileNotFoundError: If no browser is installed.
        TimeoutError: If it does not start.
    """
    binary = find_chromium()
    if binary is None:
        raise FileNotFoundError(f"expected one of {', '.join(NAMES)} on the path, found none")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [binary, *_FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}", "about:blank"]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            yield Page(_address_of_tab(Path(profile), process, seconds), seconds=seconds)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _address_of_tab(profile: Path, process: subprocess.Popen[bytes], seconds: float) -> str:
    end = time.monotonic() + seconds
    port_file = profile / "DevToolsActivePort"
    while time.monotonic() < end and process.poll() is None:
        if port_file.is_file() and (lines := port_file.read_text().split()):
            with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json/list", timeout=seconds) as answer:
                tabs = [each for each in json.load(answer) if each["type"] == "page"]
            if tabs:
                return str(tabs[0]["webSocketDebuggerUrl"])
        time.sleep(0.05)
    raise TimeoutError(f"the browser did not open its DevTools port within {seconds} s")
