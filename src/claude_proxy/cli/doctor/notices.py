"""Checks whether notices can be sent. Nothing is published here; `claude-proxy test-ntfy` does that."""

from __future__ import annotations

import http.client
import json
import shutil
import urllib.error
import urllib.request

from claude_proxy.cli.address import reason
from claude_proxy.cli.doctor.check import Check, Checks, fail, ok, warn
from claude_proxy.notify.answer import foreign, redirected
from claude_proxy.notify.ntfy import NoRedirect
from claude_proxy.settings import Settings

LIMIT = 6.0  # seconds
FIX = "Check NTFY_SERVER and the network; then: claude-proxy test-ntfy"


def ntfy(settings: Settings) -> Checks:
    """Check the ntfy command or server, if a topic is set."""
    if settings.ntfy_topic is None:
        yield ok("ntfy", "no notices: NTFY_TOPIC is not set")
    elif settings.ntfy_via == "cli":
        found = shutil.which("ntfy")
        if found is None:
            yield fail("ntfy", "NTFY_VIA=cli, but there is no ntfy command on the PATH", "Install it, or set NTFY_VIA=http.")
        else:
            yield ok("ntfy", f"{found} publishes the notices (test: claude-proxy test-ntfy)")
    else:
        yield server(settings.ntfy_server)


def server(url: str) -> Check:
    """Ask the server for its health (docs.ntfy.sh/config, "Health checks")."""
    try:
        with urllib.request.build_opener(NoRedirect()).open(f"{url}/v1/health", timeout=LIMIT) as response:
            return healthy(url, response.read(4096))
    except urllib.error.HTTPError as error:
        with error:
            return refused(url, error)
    except urllib.error.URLError as error:
        cause = error.reason if isinstance(error.reason, Exception) else error
        return fail("ntfy", f"{url} cannot be reached ({reason(cause)})", FIX)
    except (OSError, http.client.HTTPException) as error:
        return fail("ntfy", f"{url} does not answer like an ntfy server ({reason(error)})", FIX)


def healthy(url: str, body: bytes) -> Check:
    """Judge a 200: only ntfy's `{"healthy": true}` counts, not a portal's login page or another service's JSON."""
    try:
        state = json.loads(body)["healthy"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return fail("ntfy", f"{url} does not answer like an ntfy server", foreign(200, body))
    if state is True:
        return ok("ntfy", f"{url} is healthy (test: claude-proxy test-ntfy)")
    return warn("ntfy", f"{url} says it is not healthy", "Look at the ntfy server's log.")


def refused(url: str, error: urllib.error.HTTPError) -> Check:
    """Judge any other status: ntfy answers a health check from anyone, so this is not ntfy's answer."""
    if 300 <= error.code < 400:
        sentence = redirected(error.code, {"location": error.headers.get("location", "")}).sentence
        return fail("ntfy", f"{url} redirects, which publishing does not follow", sentence)
    return fail("ntfy", f"{url} answers a health check with {error.code}", FIX)
