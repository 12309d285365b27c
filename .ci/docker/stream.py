"""stream.py URL [SCENARIO] : sends one streamed message through a proxy at URL and says how the answer came.

Prints `first` as soon as the first event is there, then `complete` after message_stop, or `cut` after an answer that ends
without it. Exit 0 for complete, 3 for cut, 4 when the events came all at once, 5 for an answer that is no stream.
SCENARIO goes to our simulator (`claude-proxy simulate --list`); certificates are not verified. Standard library only.
"""

import http.client
import json
import ssl
import sys
import time
from urllib.parse import urlsplit

BODY = json.dumps({"model": "claude-check", "max_tokens": 64, "stream": True, "messages": [{"role": "user", "content": "hi"}]})


def say(text: str) -> None:
    """A line on standard output, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def connect(url: str) -> tuple[http.client.HTTPConnection, str]:
    """A connection to the URL's server, and the path of the API there."""
    parts = urlsplit(url)
    path = f"{parts.path.rstrip('/')}/api/anthropic/v1/messages"
    if parts.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(parts.netloc, timeout=60, context=context), path
    return http.client.HTTPConnection(parts.netloc, timeout=60), path


def main(url: str, scenario: str = "slow;deltas=8;pace=0.1") -> int:
    """The exit code."""
    connection, path = connect(url)
    fields = {"content-type": "application/json", "x-simulate": scenario, "anthropic-version": "2023-06-01"}
    connection.request("POST", path, BODY, {**fields, "authorization": "Bearer check"})
    answer = connection.getresponse()
    if answer.status != 200 or "text/event-stream" not in (answer.getheader("content-type") or ""):
        say(f"{answer.status} {answer.read(500)!r}")
        return 5
    times = []
    stopped = False
    try:
        while line := answer.readline():
            if line.startswith(b"event:"):
                times.append(time.monotonic())
                stopped = stopped or b"message_stop" in line
                if len(times) == 1:
                    say("first")
    except (OSError, http.client.HTTPException) as error:
        say(f"cut after {len(times)} events: {error!r}")
        return 3
    if not stopped:
        say(f"cut after {len(times)} events")
        return 3
    spread = times[-1] - times[0]
    say(f"complete: {len(times)} events over {spread:.2f} s")
    return 0 if spread > 0.3 else 4


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
