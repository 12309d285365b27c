"""Whether notices can go out. Nothing is published here: `claude-proxy test-ntfy` does that."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request

from claude_proxy.cli.address import reason
from claude_proxy.cli.doctor.check import Checks, fail, ok
from claude_proxy.settings import Settings

LIMIT = 6.0  # seconds


def ntfy(settings: Settings) -> Checks:
    """The ntfy command or server, if a topic is set."""
    if settings.ntfy_topic is None:
        yield ok("ntfy", "no notices: NTFY_TOPIC is not set")
    elif settings.ntfy_via == "cli":
        found = shutil.which("ntfy")
        if found is None:
            yield fail("ntfy", "NTFY_VIA=cli, but there is no ntfy command on the PATH", "Install it, or set NTFY_VIA=http.")
        else:
            yield ok("ntfy", f"{found} publishes the notices (test: claude-proxy test-ntfy)")
    else:
        yield from server(settings.ntfy_server)


def server(url: str) -> Checks:
    """Ask the server for its health (docs.ntfy.sh/config, "Health checks")."""
    fix = "Check NTFY_SERVER and the network; then: claude-proxy test-ntfy"
    try:
        with urllib.request.urlopen(f"{url}/v1/health", timeout=LIMIT) as response:  # noqa: S310 - settings allow http(s) only
            healthy = json.loads(response.read(4096)).get("healthy")
    except urllib.error.HTTPError as error:
        yield fail("ntfy", f"{url} answers {error.code} where a ntfy server says its health", fix)
    except urllib.error.URLError as error:
        cause = error.reason if isinstance(error.reason, Exception) else error
        yield fail("ntfy", f"{url} cannot be reached ({reason(cause)})", fix)
    except (OSError, ValueError, AttributeError) as error:
        yield fail("ntfy", f"{url} gives no answer of a ntfy server ({reason(error)})", fix)
    else:
        state = "is healthy" if healthy else "says it is not healthy"
        yield ok("ntfy", f"{url} {state} (test: claude-proxy test-ntfy)")
