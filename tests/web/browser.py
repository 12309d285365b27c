"""A headless Chromium, driven over its debugging pipe (https://chromedevtools.github.io/devtools-protocol/)."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
ANSWER = 30.0  # seconds that Chromium may take for one command


class Navigated(Exception):
    """The document of which something was asked is gone, because the tab goes to another one."""


class Tab:
    """One page. `said` keeps what it wrote to its console, `asked` every address it tried to load."""

    def __init__(self, chromium: Chromium, session: str) -> None:
        self._chromium = chromium
        self._session = session
        self.said: list[str] = []
        self.asked: list[str] = []
        self.loaded = asyncio.Event()

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol."""
        return await self._chromium.call(method, parameters, self._session)

    async def open(self, url: str) -> None:
        """Go to `url`; returns when it and all it names are loaded."""
        self.loaded.clear()
        await self.call("Page.navigate", url=url)
        async with asyncio.timeout(ANSWER):
            await self.loaded.wait()

    async def run(self, script: str) -> Any:
        """The value of `script` in the page; a promise is awaited there."""
        found = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, condition: str) -> None:
        """Returns once `condition` holds in the page, or in the one that a click has led to; looked at after each change."""
        async with asyncio.timeout(ANSWER):
            while True:
                try:
                    await self._until(condition)
                except Navigated:  # the old document was asked
                    continue
                return

    async def _until(self, condition: str) -> None:
        await self.run(
            f"""new Promise((done) => {{
              const look = () => {{ if ({condition}) {{ observer.disconnect(); done(); }} }};
              const observer = new MutationObserver(look);
              observer.observe(document, {{ subtree: true, childList: true, attributes: true, characterData: true }});
              look();
            }})"""
        )

    def hear(self, method: str, parameters: dict[str, Any]) -> None:
        """Take in an event of the page."""
        if method == "Page.loadEventFired":
            self.loaded.set()
        elif method == "Network.requestWillBeSent":
            self.asked.append(parameters["request"]["url"])
        elif method == "Log.entryAdded":
            self.said.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning"):
            self.said.append(" ".join(str(value.get("value")) for value in parameters["args"]))
        elif method == "Runtime.exceptionThrown":
            self.said.append(parameters["exceptionDetails"]["text"])


class Chromium:
    """The browser: numbers its commands, and hands answers and events to whom they belong."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._pending: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._tabs: dict[str, Tab] = {}
        self._targets: list[str] = []
        self._number = 0

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Read messages, each ended by a NUL, until the pipe closes."""
        while True:
            try:
                message = json.loads((await reader.readuntil(b"\0"))[:-1])
            except asyncio.IncompleteReadError:
                return
            if "id" in message:
                self._pending.pop(message["id"]).set_result(message)
            elif (tab := self._tabs.get(message.get("sessionId", ""))) is not None:
                tab.hear(message["method"], message["params"])

    async def call(self, method: str, parameters: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        """Send a command and return its result."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        answer = self._pending[self._number] = asyncio.get_running_loop().create_future()
        self._pipe.write(json.dumps(command | ({"sessionId": session} if session else {})).encode() + b"\0")
        async with asyncio.timeout(ANSWER):
            found = await answer
        if "Inspected target navigated" in found.get("error", {}).get("message", ""):
            raise Navigated
        assert "error" not in found, (method, found)
        result: dict[str, Any] = found["result"]
        return result

    async def tab(self, *, dark: bool = False, width: int = 1000, language: str = "en") -> Tab:
        """A new page as wide as `width` CSS pixels."""
        target = (await self.call("Target.createTarget", {"url": "about:blank"}))["targetId"]
        session = (await self.call("Target.attachToTarget", {"targetId": target, "flatten": True}))["sessionId"]
        tab = self._tabs[session] = Tab(self, session)
        self._targets.append(target)
        for domain in ("Page", "Runtime", "Log", "Network"):
            await tab.call(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await tab.call("Emulation.setEmulatedMedia", features=[scheme])
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
        await tab.call("Emulation.setDeviceMetricsOverride", **size)
        await tab.call("Network.setExtraHTTPHeaders", headers={"accept-language": language})
        return tab

    async def close_tabs(self) -> None:
        """Close every page opened so far."""
        while self._targets:
            await self.call("Target.closeTarget", {"targetId": self._targets.pop()})


@asynccontextmanager
async def chromium(profile: Path) -> AsyncIterator[Chromium]:
    """Start Chromium with a fresh profile in `profile`; it ends with the block."""
    program = shutil.which("chromium")
    assert program is not None, "install Debian's chromium"
    commands, to_browser = os.pipe()
    from_browser, answers = os.pipe()
    # The browser reads commands from descriptor 3 and writes answers to 4.
    script = f'exec "$@" 3<&{commands} 4>&{answers}'
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script,
        "chromium",
        program,
        *FLAGS,
        f"--user-data-dir={profile}",
        pass_fds=(commands, answers),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    os.close(commands)
    os.close(answers)
    reader = asyncio.StreamReader(limit=2**26)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(from_browser, "rb"))
    with os.fdopen(to_browser, "wb", buffering=0) as pipe:
        browser = Chromium(pipe)
        listening = asyncio.create_task(browser.listen(reader))
        try:
            yield browser
            await browser.call("Browser.close", {})
        finally:
            if process.returncode is None:
                try:
                    async with asyncio.timeout(10):
                        await process.wait()
                except TimeoutError:
                    process.kill()
                    await process.wait()
            await listening
            transport.close()


def only_from(address: str, tab: Tab) -> None:
    """Nothing was loaded from elsewhere, and the page had nothing to complain of."""
    assert {url for url in tab.asked if not url.startswith((f"{address}/", "data:", "blob:"))} == set()
    assert tab.said == []


# Text whose contrast with what is behind it is below 4.5:1 (WCAG 2.2, 1.4.3).
CONTRASTS = """
(() => {
  const parts = (color) => (color.match(/[\\d.]+/g) || []).map(Number);
  const light = (color) => {
    const [r, g, b] = parts(color).map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (parts(color)[3] !== 0) return color;
    }
  };
  const poor = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest('script, style')) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (!(contrast >= 4.5)) poor.push(`${element.outerHTML.slice(0, 80)}: ${contrast.toFixed(2)}`);
  }
  return poor;
})()
"""
