"""A headless chromium, driven through its DevTools protocol over two pipes (no package is needed for it)."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.patience import PATIENCE

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
"""How many pixels a page is too wide."""
UNNAMED = """[...document.querySelectorAll("input:not([type=hidden]), select, textarea, button")]
  .filter((each) => !each.labels?.length && !each.getAttribute("aria-label") && !each.textContent.trim()).length"""
"""How many controls a screen reader could not name."""
PHONE: Any = {"width": 360, "height": 740, "phone": True, "dark": True}
MARKUP = """"'><script>window.ran = 1</script><img src=x onerror="window.ran = 2"><svg onload="window.ran = 3"></svg>"""
"""Runs in a page that takes a text for markup."""
FLAGS = ("--headless", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage", "--hide-scrollbars")


def find_browser() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """A tab."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = os.fdopen(reading, "rb", 0), os.fdopen(writing, "wb", 0)
        self._buffer, self._number, self._session = b"", 0, None
        self.errors: list[str] = []
        self.requests: list[tuple[str, str]] = []
        """The page that asked, and the address that it asked for."""
        self._loaded: set[str] = set()
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        self._call("Page.setLifecycleEventsEnabled", enabled=True)

    def open(
        self, path: Path, *, width: int, height: int = 900, phone: bool = False, dark: bool = False, fragment: str = ""
    ) -> None:
        """Load a file as a screen of this kind would show it."""
        self.visit(path.resolve().as_uri() + fragment, width=width, height=height, phone=phone, dark=dark)

    def visit(self, url: str, *, width: int, height: int = 900, phone: bool = False, dark: bool = False) -> None:
        """Load an address as a screen of this kind would show it."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        # A change of the fragment alone would not load the page anew.
        self._load("about:blank")
        self._load(url)

    def look(self, name: str) -> None:
        """See that the page fits its screen and ran nothing of :data:`MARKUP`; its picture goes to PEFTLAB_SCREENSHOTS."""
        if folder := os.environ.get("PEFTLAB_SCREENSHOTS"):
            self.screenshot(Path(folder) / f"{name}.png", whole=True)
        assert self.evaluate(OVERFLOW) == 0, name
        assert self.evaluate(UNNAMED) == 0, name
        assert self.evaluate("[window.ran ?? 0, document.images.length]") == [0, 0], name
        assert self.evaluate("[...document.scripts].every((each) => each.src && !each.textContent)"), name

    def forget(self) -> None:
        """Leave the page, and forget what was seen on it (some of it may be read only now)."""
        self._load("about:blank")
        self.errors.clear()
        self.requests.clear()

    def asked_elsewhere(self, address: str) -> list[str]:
        """What the pages of this address asked of others; a page of an earlier test may still ask for its icon meanwhile."""
        assert any(page.startswith(address) for page, _ in self.requests), "no page of this address was loaded"
        return [
            url for page, url in self.requests if page.startswith(address) and not url.startswith((address, "about:"))
        ]

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key and let it go; what it sets off may load another page."""
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code,
                       text=text if kind == "keyDown" else "")  # fmt: skip

    def type(self, text: str) -> None:
        """Type a text where the focus is.

        A page puts the focus on its own with its first picture, which may come after it has loaded.
        """
        self.wait_for("document.hasFocus() && document.activeElement.matches('input, textarea')")
        self._call("Input.insertText", text=text)

    def wait_for(self, expression: str, seconds: float = PATIENCE) -> None:
        """Wait until a JavaScript expression is true of a page that is there with its styles, through loads of pages."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(AssertionError):
                if self.evaluate(f"document.readyState === 'complete' && ({expression})"):
                    return
            if time.monotonic() >= deadline:
                seen = self.evaluate("[location.href, document.activeElement?.id, document.body?.innerText]")
                raise AssertionError(f"not within {seconds} s: {expression}\nThe page: {seen}")
            time.sleep(0.05)

    def _load(self, url: str) -> None:
        # By its own number: an earlier page may load again meanwhile.
        number = self._call("Page.navigate", url=url)["loaderId"]
        deadline = time.monotonic() + PATIENCE
        while number not in self._loaded:
            assert time.monotonic() < deadline, "the page did not load"
            self._take()

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        done = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        done = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(done["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._writing.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._take()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def _take(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            piece = self._reading.read(1 << 16)
            assert piece, "the browser has gone"
            self._buffer += piece
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, values: dict[str, Any]) -> None:
        if method == "Page.lifecycleEvent" and values["name"] == "load":
            self._loaded.add(values["loaderId"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(values["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and values["type"] in ("error", "warning", "assert"):
            self.errors.append(json.dumps(values["args"]))
        elif method == "Log.entryAdded" and values["entry"]["level"] in ("error", "warning"):
            self.errors.append(values["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append((values["documentURL"], values["request"]["url"]))


@contextmanager
def serve(app: Any) -> Iterator[str]:
    """Serve an ASGI application on the loopback, and give its address."""
    import uvicorn

    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    bound.listen()  # else a browser that comes before the server is there is shown its own page of an error
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def open_browser(executable: str, profile: Path) -> Iterator[Page]:
    """A browser of its own; it and all its processes end with the block."""
    to_browser, from_us = os.pipe()
    to_us, from_browser = os.pipe()
    flags = [*FLAGS, f"--user-data-dir={profile}", "--remote-debugging-pipe"]
    if os.geteuid() == 0:
        flags.append("--no-sandbox")
    # The protocol wants the descriptors 3 and 4; a shell puts them there.
    command = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
    process = subprocess.Popen(
        ["bash", "-c", command, "bash", executable, *flags],
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(to_browser)
    os.close(from_browser)
    try:
        yield Page(to_us, from_us)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=PATIENCE)
