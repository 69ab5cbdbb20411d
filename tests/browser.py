"""A real headless Chromium, driven through its DevTools pipe (no driver, no socket). Fixtures: `browser`, `page`."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)  # fmt: skip
_TIMEOUT_S = 60
_QUIET_S = 0.3
_POLL_S = 0.02


class DevTools:
    """Commands to a browser and its events, over two file descriptors."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive, self._buffer, self._last_id = send, receive, b"", 0
        self.listeners: dict[str, Callable[[dict[str, Any]], None]] = {}
        """Listeners to a tab's events, by session."""

    def command(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._last_id += 1
        own_id = self._last_id
        message: dict[str, Any] = {"id": own_id, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.next_message(_TIMEOUT_S)
            assert answer is not None, f"Chromium did not answer {method}"
            if answer.get("id") == own_id:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def send(self, method: str, session: str, **parameters: Any) -> None:
        """Send a command without waiting for its answer: for listeners, which are called while others wait."""
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": parameters, "sessionId": session}
        os.write(self._send, json.dumps(message).encode() + b"\0")

    def next_message(self, timeout_s: float) -> dict[str, Any] | None:
        """Return the browser's next message, or None after a silence."""
        while b"\0" not in self._buffer:
            if not select.select([self._receive], [], [], timeout_s)[0]:
                return None
            chunk = os.read(self._receive, 2**20)
            assert chunk, "Chromium has gone"
            self._buffer += chunk
        raw, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(raw)
        listener = self.listeners.get(message.get("sessionId", ""))
        if listener is not None:
            listener(message)
        return message


class Page:
    """One tab. `errors`, `requests` and `dialogs` collect what the page logs, requests from the network and asks, e.g.
    whether it may be left; every question is answered with yes."""

    def __init__(self, tools: DevTools) -> None:
        self._tools = tools
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.dialogs: list[str] = []
        self.target = tools.command("Target.createTarget", url="about:blank")["targetId"]
        self._session = tools.command("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        tools.listeners[self._session] = self._note
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.command(f"{domain}.enable")
        self.command("Emulation.setFocusEmulationEnabled", enabled=True)  # keys reach every tab, not only the front one

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command to this tab."""
        return self._tools.command(method, self._session, **parameters)

    def open(self, path: Path, fragment: str = "", width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a file at a window size [CSS px] and wait until it has loaded and gone quiet."""
        self.open_url(f"{path.resolve().as_uri()}{fragment}", width, height, dark)

    def open_url(self, url: str, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a URL; otherwise as `open`."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.command("Emulation.setEmulatedMedia", features=scheme)
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.command("Page.navigate", url=url)
        deadline = time.monotonic() + _TIMEOUT_S
        while self.evaluate("document.readyState") != "complete":
            assert time.monotonic() < deadline, "the page did not load"
        while self._tools.next_message(_QUIET_S) is not None:
            pass

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page; of a promise, its result."""
        answer = self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> Any:
        """Wait until a JavaScript expression is true; return its value."""
        deadline = time.monotonic() + _TIMEOUT_S
        while not (value := self.evaluate(condition)):
            assert time.monotonic() < deadline, f"never came true: {condition}"
            time.sleep(_POLL_S)
        return value

    def press(self, *keys: str) -> None:
        """Send real key strokes, one after the other: characters, or names like Enter."""
        for key in keys:
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            self.command("Input.dispatchKeyEvent", type="keyDown", key=key, text=text)
            self.command("Input.dispatchKeyEvent", type="keyUp", key=key)

    def click(self, selector: str, times: int = 1) -> None:
        """Send real mouse clicks to the middle of an element; two are a double click."""
        box = f"document.querySelector('{selector}').getBoundingClientRect()"
        middle = f"(box => [box.x + box.width / 2, box.y + box.height / 2])({box})"
        x, y = self.evaluate(middle)
        for count in range(1, times + 1):
            for kind in ("mousePressed", "mouseReleased"):
                self.command("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=count)

    def set_offline(self, offline: bool) -> None:
        """Disconnect the tab from the network, or reconnect it."""
        self.command(
            "Network.emulateNetworkConditions", offline=offline, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )

    def close(self) -> None:
        """Close the tab."""
        self._tools.listeners.pop(self._session, None)
        self._tools.command("Target.closeTarget", targetId=self.target)

    def screenshot(self, path: Path) -> None:
        """Write the whole page as PNG."""
        content = self.command("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(content))

    def _note(self, message: dict[str, Any]) -> None:
        method, event = message.get("method"), message.get("params", {})
        logged = method == "Log.entryAdded" and event["entry"]["level"] == "error"
        printed = method == "Runtime.consoleAPICalled" and event["type"] in ("error", "assert", "warning")
        if method == "Runtime.exceptionThrown" or logged or printed:
            self.errors.append(json.dumps(event)[:500])
        elif method == "Page.javascriptDialogOpening":
            self.dialogs.append(event["type"])
            self._tools.send("Page.handleJavaScriptDialog", self._session, accept=True)
        elif method == "Network.requestWillBeSent" and not event["request"]["url"].startswith("data:"):
            self.requests.append(event["request"]["url"])


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevTools]:
    """A headless browser with an empty profile."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    child_in, send = os.pipe()
    receive, child_out = os.pipe()
    # Chromium speaks DevTools on file descriptors 3 and 4
    script = f'exec "$@" 3<&{child_in} 4>&{child_out}'
    profile = tmp_path_factory.mktemp("browser-profile")
    process = subprocess.Popen(
        ["bash", "-c", script, "bash", program, *_FLAGS, f"--user-data-dir={profile}"],
        pass_fds=(child_in, child_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(child_in)
    os.close(child_out)
    try:
        yield DevTools(send, receive)
    finally:
        process.terminate()
        process.wait(_TIMEOUT_S)
        os.close(send)
        os.close(receive)


@pytest.fixture
def page(browser: DevTools) -> Iterator[Page]:
    """A new tab."""
    tab = Page(browser)
    yield tab
    tab.close()
