"""``python -m tools.screenshots``: takes the pictures of the README from `claude-proxy demo --keep`, in Chromium.

It starts the demo, waits until its sessions have something to show, and writes docs/images. With --all FOLDER it takes every view
instead, on a light desktop in English and on a dark phone in Korean, to be looked at.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from tests.web.browser import Chromium, chromium

IMAGES = Path(__file__).parent.parent / "docs/images"
SETTLED = 1.5  # seconds for charts and the event stream of an open page


@dataclass(frozen=True)
class Picture:
    """One view as a picture; `height` is at most that of the page."""

    file: str
    view: str
    width: int
    height: int
    dark: bool = False
    language: str = "en"


PICTURES = (
    Picture("now.png", "now", 1280, 1000),
    Picture("now.ko.png", "now", 1280, 1000, language="ko"),
    Picture("session.png", "session", 1280, 1400),
    Picture("conversation.ko.png", "korean", 390, 1300, dark=True, language="ko"),
)


def everything(views: dict[str, str]) -> tuple[Picture, ...]:
    """Every view on both screens, as a whole."""
    desk = tuple(Picture(f"{name}.png", name, 1280, 4000) for name in views)
    return desk + tuple(Picture(f"{name}.ko.png", name, 390, 6000, dark=True, language="ko") for name in views)


@contextlib.asynccontextmanager
async def demo() -> AsyncIterator[str]:
    """Run the demo; gives the address of its proxy."""
    command = (sys.executable, "-m", "claude_proxy", "demo", "--keep")
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    assert process.stdout is not None
    try:
        first = (await process.stdout.readline()).decode()
        found = re.search(r"Proxy (http://\S+)", first)
        if found is None:
            raise SystemExit(f"The demo did not start: {first}")
        yield found[1]
    finally:
        process.terminate()
        await process.communicate()


def ask(url: str, question: str) -> list[dict[str, Any]]:
    """Items of the proxy's API."""
    with urllib.request.urlopen(f"{url}/api/v1/{question}") as answer:  # noqa: S310 - the demo's own address
        items: list[dict[str, Any]] = json.load(answer)["items"]
    return items


def views_of(url: str) -> dict[str, str]:
    """The address of each view: of the last session of a project, its last exchange that went well."""
    shop, last = last_of(url, "web-shop")
    _, korean = last_of(url, "handbook-ko")
    found = {"now": "", "sessions": "sessions", "session": f"sessions/{shop}", "usage": "usage", "upstreams": "upstreams"}
    found |= {"settings": "settings", "exchange": f"exchanges/{last}", "conversation": f"exchanges/{last}/conversation"}
    found |= {"korean": f"exchanges/{korean}/conversation"}
    failed = ask(url, "exchanges?status=failed&limit=1")
    return found | ({"failed": f"exchanges/{failed[0]['id']}"} if failed else {})


def last_of(url: str, project: str) -> tuple[str, str]:
    """The last session of a project, and the id of the last good exchange of its main agent."""
    session = next(one["session"] for one in ask(url, "sessions?limit=50") if one["session"].endswith(project))
    exchanges = ask(url, f"exchanges?session={session}&limit=500")
    return session, next(str(one["id"]) for one in exchanges if one["agent"] is None and one["status"] == 200)


async def take(browser: Chromium, url: str, picture: Picture, path: str, folder: Path) -> None:
    """Write one picture; says when something sticks out or the page complained."""
    tab = await browser.tab(width=picture.width, dark=picture.dark, language=picture.language)
    await tab.call("Emulation.setScrollbarsHidden", hidden=True)
    await tab.open(f"{url}/{path}")
    whole = int(await tab.run("document.documentElement.scrollHeight"))
    size = {"width": picture.width, "height": min(picture.height, whole), "deviceScaleFactor": 1}
    await tab.call("Emulation.setDeviceMetricsOverride", **size, mobile=picture.width < 600)
    await asyncio.sleep(SETTLED)
    wide = int(await tab.run("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
    shot = await tab.call("Page.captureScreenshot", format="png", optimizeForSpeed=False)
    data = base64.b64decode(shot["data"])
    folder.joinpath(picture.file).write_bytes(data)
    typer.echo(
        ", ".join([f"{picture.file}: {len(data) / 1000:.0f} KB", *([f"sticks out by {wide} px"] if wide else []), *tab.said])
    )
    await browser.close_tabs()


async def take_all(url: str, folder: Path, *, whole: bool) -> None:
    """Write the pictures of the README, or those of every view."""
    views = await asyncio.to_thread(views_of, url)
    with tempfile.TemporaryDirectory(prefix="claude-proxy-shots-") as profile:
        async with chromium(Path(profile)) as browser:
            for picture in everything(views) if whole else PICTURES:
                await take(browser, url, picture, views[picture.view], folder)


async def run(url: str | None, seconds: float, folder: Path, *, whole: bool) -> None:
    """Take the pictures from a running demo, or from one of our own."""
    if url is not None:
        return await take_all(url, folder, whole=whole)
    async with demo() as own:
        await asyncio.sleep(seconds)
        return await take_all(own, folder, whole=whole)


def main(
    url: Annotated[str | None, typer.Option(help="Of a demo that runs already.")] = None,
    seconds: Annotated[float, typer.Option(help="How long a demo of our own lives before.")] = 150,
    every: Annotated[Path | None, typer.Option("--all", help="Take every view, into this folder.")] = None,
) -> None:
    """Take the pictures of the README."""
    if every is not None:
        every.mkdir(parents=True, exist_ok=True)
    asyncio.run(run(url, seconds, every or IMAGES, whole=every is not None))


if __name__ == "__main__":
    typer.run(main)
