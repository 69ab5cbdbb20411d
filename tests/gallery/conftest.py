"""A real headless Chromium, driven through its DevTools pipe (no driver, no socket), and a run folder worth showing."""

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

import numpy as np
import pytest

from emixer.gallery.sample_grid import draw_pairs
from emixer.run_folder import RunFolder

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)  # fmt: skip
_TIMEOUT_S = 60
_QUIET_S = 0.3


class DevTools:
    """Commands to a browser and its events, over two file descriptors."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive, self._buffer, self._last_id = send, receive, b"", 0
        self.on_event: Callable[[dict[str, Any]], None] = lambda event: None

    def command(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Sends a command and waits for its answer."""
        self._last_id += 1
        message: dict[str, Any] = {"id": self._last_id, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.next_message(_TIMEOUT_S)
            assert answer is not None, f"Chromium did not answer {method}"
            if answer.get("id") == self._last_id:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def next_message(self, timeout_s: float) -> dict[str, Any] | None:
        """What the browser says next, or None after a silence."""
        while b"\0" not in self._buffer:
            if not select.select([self._receive], [], [], timeout_s)[0]:
                return None
            chunk = os.read(self._receive, 2**20)
            assert chunk, "Chromium has gone"
            self._buffer += chunk
        raw, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(raw)
        self.on_event(message)
        return message


class Page:
    """One tab. `errors` and `requests` collect what the page logs and asks the network for."""

    def __init__(self, tools: DevTools) -> None:
        self._tools = tools
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.target = tools.command("Target.createTarget", url="about:blank")["targetId"]
        self._session = tools.command("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        tools.on_event = self._note
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command to this tab."""
        return self._tools.command(method, self._session, **parameters)

    def open(self, path: Path, fragment: str = "", width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Loads a file at a window size [CSS px] and waits until it has loaded and gone quiet."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.command("Emulation.setEmulatedMedia", features=scheme)
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.command("Page.navigate", url=f"{path.resolve().as_uri()}{fragment}")
        deadline = time.monotonic() + _TIMEOUT_S
        while self.evaluate("document.readyState") != "complete":
            assert time.monotonic() < deadline, "the page did not load"
        while self._tools.next_message(_QUIET_S) is not None:
            pass

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; of a promise, what it comes to."""
        answer = self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        content = self.command("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(content))

    def _note(self, message: dict[str, Any]) -> None:
        method, event = message.get("method"), message.get("params", {})
        logged = method == "Log.entryAdded" and event["entry"]["level"] == "error"
        printed = method == "Runtime.consoleAPICalled" and event["type"] in ("error", "assert", "warning")
        if method == "Runtime.exceptionThrown" or logged or printed:
            self.errors.append(json.dumps(event)[:500])
        elif method == "Network.requestWillBeSent" and not event["request"]["url"].startswith("data:"):
            self.requests.append(event["request"]["url"])


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevTools]:
    """One headless browser with an empty profile."""
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
    """A fresh tab."""
    tab = Page(browser)
    yield tab
    browser.on_event = lambda event: None
    browser.command("Target.closeTarget", targetId=tab.target)


@pytest.fixture(scope="session")
def shown_run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tiny run with curves, two validation passes and three sample grids."""
    folder = RunFolder(shutil.copytree(tiny_run, tmp_path_factory.mktemp("runs") / "shown"))
    for images in range(20, 1001, 20):
        losses = {"discriminator/total": 3 - images / 1000, "discriminator/image": 1.0, "generator/words": 900 / images}
        folder.append_metrics({"images": images, **losses})
        if images in (500, 1000):
            folder.append_metrics({
                "images": images, "validation/fid_random_densenet": 5000 / images, "validation/word_cross_entropy": 2.5,
                "validation/label_auc_generated": 0.6, "validation/label_auc_real": 0.8,
                "validation/label_auc_generated/Edema": 0.61, "validation/label_auc_real/Edema": 0.82,
                "validation/report_f1_generated/Edema": images / 2000, "validation/report_f1_real/Edema": 0.9,
            })  # fmt: skip
    films = np.random.default_rng(0).integers(0, 255, (4, 32, 32), dtype=np.uint8)
    for images in (200, 600, 1000):
        path = folder.samples / f"images-{images:012d}.png"
        draw_pairs(films, [["Edema"], [], [], []], ["Mild edema.", "", "", ""], path, f"After {images} films")
    return folder.path
