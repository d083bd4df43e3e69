"""A headless Chromium under the DevTools protocol: opens a file, tells what it asked for.

Only what tests of our pages need. Chromium is found on PATH; without one, tests skip, unless
PEAKTAPE_REQUIRE_BROWSER=1 says that they must not.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import itertools
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

_NAMES = ("chromium", "google-chrome", "google-chrome-stable", "chromium-browser")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
_DEADLINE_S = 60.0


def find_chromium() -> str:
    """The path of a Chromium; skips the test without one, or fails it if PEAKTAPE_REQUIRE_BROWSER=1."""
    found = next((path for path in map(shutil.which, _NAMES) if path), None)
    if found is None:
        reason = f"no browser on PATH: {', '.join(_NAMES)}"
        if os.environ.get("PEAKTAPE_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@dataclasses.dataclass
class Page:
    """One tab: `requests` are the URLs asked for, `complaints` the exceptions and console errors so far."""

    socket: aiohttp.ClientWebSocketResponse
    requests: list[str] = dataclasses.field(default_factory=list)
    complaints: list[str] = dataclasses.field(default_factory=list)
    _numbers: itertools.count[int] = dataclasses.field(default_factory=itertools.count)
    _answers: dict[int, asyncio.Future[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    _loaded: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of one protocol command; raises `RuntimeError` if the browser refuses it."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self.socket.send_json({"id": number, "method": method, "params": parameters})
        reply = await asyncio.wait_for(answer, _DEADLINE_S)
        if "error" in reply:
            raise RuntimeError(f"{method}: {reply['error']}")
        return reply["result"]

    async def open(self, file_url: str) -> None:
        """Load a `file://` URL and wait until its load event has fired and two frames have been painted."""
        self._loaded.clear()
        await self.call("Page.navigate", url=file_url)
        await asyncio.wait_for(self._loaded.wait(), _DEADLINE_S)
        await self.settle()

    async def settle(self) -> None:
        """Wait for two animation frames: what a change set off has been drawn."""
        await self.value("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(() => r(1))))")

    async def value(self, expression: str) -> Any:
        """What a JavaScript expression (or its promise) comes to; raises `RuntimeError` if it throws."""
        result = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until a JavaScript expression is true; raises `TimeoutError` if it never is."""
        async with asyncio.timeout(_DEADLINE_S):
            while not await self.value(f"Boolean({expression})"):
                await self.settle()

    async def look(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Set the window's size and the reader's theme."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        await self.settle()

    async def screenshot(self, path: Path) -> None:
        """Save the whole page, not just what the window shows, as PNG."""
        shot = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(shot["data"]))

    async def listen(self) -> None:
        """Take in answers and events until the socket closes."""
        async for message in self.socket:
            self._take(message.json())

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers.pop(message["id"]).set_result(message)
            return
        name, parameters = message["method"], message["params"]
        if name == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif name == "Page.loadEventFired":
            self._loaded.set()
        elif name == "Runtime.exceptionThrown":
            self.complaints.append(str(parameters["exceptionDetails"]))
        elif name == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(parameters["args"]))
        elif name == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.complaints.append(parameters["entry"]["text"])


@contextlib.contextmanager
def running_chromium(profile: Path) -> Iterator[int]:
    """A Chromium with its own `profile` folder, by its port; it is ended and waited for."""
    with subprocess.Popen(
        [find_chromium(), *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield _port_of(process, profile)
        finally:
            process.terminate()


@contextlib.asynccontextmanager
async def chromium_page(port: int) -> AsyncIterator[Page]:
    """A fresh tab of the Chromium that listens at `port`; it is closed at the end."""
    place = f"http://127.0.0.1:{port}/json"
    async with aiohttp.ClientSession() as session:
        async with session.put(f"{place}/new?about:blank") as response:
            tab = await response.json(content_type=None)
        async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            page = Page(socket)
            listener = asyncio.create_task(page.listen())
            for domain in ("Page", "Runtime", "Network", "Log"):
                await page.call(f"{domain}.enable")
            yield page
            listener.cancel()
        async with session.get(f"{place}/close/{tab['id']}") as response:
            await response.read()


def _port_of(process: subprocess.Popen[bytes], profile: Path) -> int:
    """The port that the browser writes down once it listens."""
    written, deadline_s = profile / "DevToolsActivePort", time.monotonic() + _DEADLINE_S
    while process.poll() is None and time.monotonic() < deadline_s:
        if written.exists() and (lines := written.read_text().splitlines()):
            return int(lines[0])
        time.sleep(0.05)
    raise RuntimeError(f"the browser did not listen; its code: {process.returncode}")
