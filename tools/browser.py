"""Chromium without a window, driven by its own debugging pipe: for tests of pages, and for pictures of them.

with Browser.found() as browser:
    page = browser.open("http://127.0.0.1:8000/", width=800, dark=True)
    page.wait("document.querySelectorAll('.column').length == 3")
    page.press("Enter", "ctrl")
    page.picture(Path("page.png"))
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-dev-shm-usage",
    "--mute-audio",
)
QUIET = (
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
)
KEYS = {
    "Enter": (13, "\r"),
    "Escape": (27, ""),
    "Tab": (9, "\t"),
    "ArrowRight": (39, ""),
    "ArrowLeft": (37, ""),
    "End": (35, ""),
}
MODIFIERS = {"alt": 1, "ctrl": 2, "meta": 4, "shift": 8}


def executable() -> str | None:
    """Where a Chromium lies; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass(eq=False)
class Browser:
    """One Chromium process."""

    requests: int
    """The file descriptor that takes messages, and below the one that gives them."""
    replies: int
    _sent: int = 0
    _read: bytes = b""
    events: list[dict] = field(default_factory=list)

    @classmethod
    @contextmanager
    def found(cls, seconds: float = 60) -> Iterator["Browser"]:
        """The browser of this machine, ended at the end of the block."""
        path = executable()
        assert path is not None, "there is no Chromium here"
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
            theirs_in, ours_out = os.pipe()
            ours_in, theirs_out = os.pipe()

            def pipes() -> None:  # Chromium reads its messages from 3 and writes to 4
                for here, there in ((theirs_in, 203), (theirs_out, 204), (203, 3), (204, 4)):
                    os.dup2(here, there)

            command = [path, *FLAGS, *QUIET, f"--user-data-dir={home}", "--remote-debugging-pipe", "about:blank"]
            process = subprocess.Popen(command, preexec_fn=pipes, close_fds=False, stderr=subprocess.DEVNULL)
            for end in (theirs_in, theirs_out):
                os.close(end)
            os.set_blocking(ours_in, False)
            try:
                yield cls(ours_out, ours_in)
            finally:
                process.terminate()
                process.wait(seconds)
                for end in (ours_out, ours_in):
                    os.close(end)

    def call(self, method: str, session: str | None = None, *, seconds: float = 60, **params: Any) -> dict:
        """The result of one command."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": params, **({"sessionId": session} if session else {})}
        os.write(self.requests, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for reply in self._messages():
                if reply.get("id") == self._sent:
                    assert "error" not in reply, (method, reply["error"])
                    return reply["result"]
                self.events.append(reply)
            time.sleep(0.01)
        raise TimeoutError(f"{method} took more than {seconds:g} s")

    def _messages(self) -> Iterator[dict]:
        try:
            while part := os.read(self.replies, 1 << 16):
                self._read += part
        except BlockingIOError:
            pass
        while b"\0" in self._read:
            message, _, self._read = self._read.partition(b"\0")
            yield json.loads(message)

    def open(
        self, address: str, *, width: int = 1280, height: int = 900, dark: bool = False, touch: bool = False
    ) -> "Page":
        """A page at an address, loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for part in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{part}.enable")
        page.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        page.call("Page.navigate", url=address)
        page.wait("document.readyState == 'complete'")
        return page


@dataclass(eq=False)
class Page:
    """One page in the browser."""

    browser: Browser
    session: str

    def call(self, method: str, **params: Any) -> dict:
        return self.browser.call(method, self.session, **params)

    def resize(self, width: int, height: int) -> None:
        """The size of its window in pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )

    def value(self, script: str) -> Any:
        """What an expression of JavaScript gives, waited for where it is a promise."""
        result = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in result, (script, result["exceptionDetails"])
        return result["result"].get("value")

    def wait(self, condition: str, seconds: float = 60) -> None:
        """Until an expression is true."""
        end = time.monotonic() + seconds
        while not self.value(f"!!({condition})"):
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.05)

    def press(self, key: str, *modifiers: str) -> None:
        """A key, as a person presses it."""
        code, text = KEYS[key]
        bits = sum(MODIFIERS[m] for m in modifiers)
        about = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": bits}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about, **({"text": text} if text and not bits else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def type(self, text: str) -> None:
        """Text, into what has the focus."""
        self.call("Input.insertText", text=text)

    def asked(self) -> list[str]:
        """The addresses of everything that pages asked for."""
        sent = [e for e in self.browser.events if e.get("method") == "Network.requestWillBeSent"]
        return [e["params"]["request"]["url"] for e in sent if e.get("sessionId") == self.session]

    def complaints(self) -> list[str]:
        """What went wrong in the page: errors, and what its policy refused; not what a server refused."""
        self.value("1")
        lines = []
        for e in self.browser.events:
            if e.get("sessionId") != self.session:
                continue
            if e["method"] == "Runtime.exceptionThrown":
                lines.append(str(e["params"]["exceptionDetails"]))
            if e["method"] == "Log.entryAdded" and (entry := e["params"]["entry"])["level"] == "error":
                lines += [entry["text"]] if entry["source"] != "network" else []
        return lines

    def named(self) -> list[tuple[str, str]]:
        """(role, name) of all that a screen reader is told of."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if not n["ignored"]]

    def picture(self, file: Path, *, whole: bool = True) -> None:
        """A PNG of what is seen, or of the whole page."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        more = {"captureBeyondViewport": True, "clip": clip} if whole else {}
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png", **more)["data"]))
