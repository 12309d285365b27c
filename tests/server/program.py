"""What the tests run as a process of its own: `serve` with an app that says what happens to it on standard output."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

from claude_proxy.errors import SettingsError
from claude_proxy.server import ServerOptions, notes_on, run
from claude_proxy.settings import load
from tests.server.apps import Receive, Recorder, Scope, Seen, Send, answer

UNWANTED = {"h11", "websockets", "wsproto"}


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


class Talking(Recorder):
    """A Recorder with a state, as FastAPI has one."""

    def __init__(self) -> None:
        super().__init__()
        self.state = SimpleNamespace(draining=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" and os.environ.get("TEST_LIFESPAN") == "fails":
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no ledger"})
            return
        await super().__call__(scope, receive, send)
        if scope["type"] == "lifespan":
            say("down", "draining" if self.state.draining else "not draining")

    async def do_stuck(self, seen: Seen, receive: Receive, send: Send) -> None:
        try:
            await super().do_stuck(seen, receive, send)
        finally:
            say("written down")

    async def do_pid(self, seen: Seen, receive: Receive, send: Send) -> None:
        await answer(send, b"%d" % os.getpid())

    async def do_modules(self, seen: Seen, receive: Receive, send: Send) -> None:
        await answer(send, ",".join(sorted(UNWANTED & set(sys.modules))).encode())


app = Talking()


def broken_factory() -> Talking:
    raise SettingsError("BASE_URL=x is not a URL.")


def buggy_factory() -> Talking:
    raise RuntimeError("a bug")


def main() -> int:
    name = os.environ.get("TEST_APP", "app")
    try:
        options = ServerOptions.from_settings(load().settings, notes=notes_on(os.environ))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return run(options, f"tests.server.program:{name}", factory=name.endswith("factory"))


if __name__ == "__main__":
    sys.exit(main())
