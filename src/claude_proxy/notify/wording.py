"""The words of a notice: what an incident says when it opens, goes on and ends."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address
from urllib.parse import urlsplit

from claude_proxy.notify.advice import advice, reset
from claude_proxy.notify.incident import Fault, Incident
from claude_proxy.notify.notice import Notice, plain

FOLLOW_UP_AT_END = 1  # its recovery comes right behind it: no sound
RECOVERY = 2
_KNOWN = {"anthropic.com": "Anthropic", "openrouter.ai": "OpenRouter"}
_PUBLIC = (
    "z.ai",
    "bigmodel.cn",
    "moonshot.ai",
    "moonshot.cn",
    "kimi.com",
    "deepseek.com",
    "minimax.io",
    "minimaxi.com",
    "xiaomimimo.com",
)


def provider(base_url: str) -> str:
    """A short public name for an upstream: `z.ai`; `upstream` for a host that strangers should not read of."""
    host = (urlsplit(base_url if "//" in base_url else f"//{base_url}").hostname or "").rstrip(".")
    if not host or _is_address(host):
        return "upstream"
    for domain in (*_KNOWN, *_PUBLIC):
        if host == domain or host.endswith(f".{domain}"):
            return _KNOWN.get(domain, domain)
    return "upstream"


def opening(incident: Incident, label: str) -> Notice:
    """The first message: what fails and what to do."""
    fault, about = incident.last, advice(incident.last.word)
    lines = [about.do, reset(fault.message), _said(fault, label), _where(fault)]
    return _notice(f"{label}: {_name(fault)}", lines, incident, about.priority, about.tag)


def follow_up(incident: Incident, label: str, now: float) -> Notice:
    """How many more since the last message."""
    fault, about = incident.last, advice(incident.last.word)
    more = f"{incident.fresh} more in {spell(now - incident.said)}, last at {clock(fault.wall)}."
    lines = [
        more,
        "" if incident.failing else "It works at the moment.",
        _said(fault, label),
        about.do,
        reset(fault.message),
        _where(fault),
    ]
    return _notice(f"{label}: {_name(fault)}, {incident.fresh} more", lines, incident, about.priority, about.tag)


def storm(incident: Incident, label: str, now: float) -> Notice:
    """The repeats that a recovery cuts short: told silently, just before it."""
    fault = incident.last
    more = f"{incident.fresh} more in {spell(now - incident.said)}, last at {clock(fault.wall)}."
    lines = [more, _said(fault, label), _where(fault)]
    return _notice(f"{label}: {_name(fault)}, {incident.fresh} more", lines, incident, FOLLOW_UP_AT_END, advice(fault.word).tag)


def recovery(incident: Incident, label: str, now: float) -> Notice:
    """It is over: how long, how many."""
    fault = incident.last
    requests = "1 request" if incident.total == 1 else f"{incident.total} requests"
    lines = [
        f"Answers again after {spell(now - incident.opened)}; {requests} failed: {_name(fault)}.",
        f"Upstream {_upstream(fault)}.",
    ]
    return _notice(f"{label}: works again", lines, incident, RECOVERY, "white_check_mark")


def spell(seconds: float) -> str:
    """A duration in seconds for people: `45 s`, `12 min`, `2 h 5 min`, `3 d 2 h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    big, small, units = (*divmod(minutes, 60), ("h", "min")) if minutes < 1440 else (*divmod(minutes // 60, 24), ("d", "h"))
    return f"{big} {units[0]} {small} {units[1]}" if small else f"{big} {units[0]}"


def clock(wall: float) -> str:
    """A Unix time as `12:03 UTC`: a container's local time is seldom the reader's."""
    return f"{datetime.fromtimestamp(wall, UTC):%H:%M} UTC"


def _notice(title: str, lines: list[str], incident: Incident, priority: int, tag: str) -> Notice:
    return Notice(title, "\n".join(filter(None, lines)), priority, (tag,), incident.sequence)


def _name(fault: Fault) -> str:
    name = advice(fault.word).name
    return f"{name} ({fault.word})" if fault.word.isdigit() else name


def _said(fault: Fault, label: str) -> str:
    if not fault.message:
        return ""
    return f"{label} said: {fault.message}" if fault.from_provider else fault.message


def _upstream(fault: Fault) -> str:
    return plain(fault.upstream) or "default"


def _where(fault: Fault) -> str:
    model = f", model {fault.model}" if fault.model else ""
    status = f", status {fault.status}" if fault.status else ""
    return f"Upstream {_upstream(fault)}{model}{status}, {clock(fault.wall)}."


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
