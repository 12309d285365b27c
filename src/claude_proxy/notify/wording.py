"""The text of a notice: for an incident that opens, goes on or ends."""

from __future__ import annotations

from datetime import UTC, datetime

from claude_proxy.notify.incident import Fault, Incident
from claude_proxy.notify.notice import Notice, plain

FOLLOW_UP_AT_END = 1  # silent, because the recovery follows at once
RECOVERY = 2
OURSELVES = "claude-proxy"  # in place of an upstream's name if the proxy itself failed


def opening(incident: Incident, label: str) -> Notice:
    """Return the first message: what fails and what to do."""
    fault, about = incident.last, incident.last.about
    lines = [about.do.en, fault.reset, _said(fault, label), _where(fault)]
    return _notice(_title(fault, label), lines, incident, about.priority, about.tag)


def follow_up(incident: Incident, label: str, now: float) -> Notice:
    """Return a message with the number of failures since the last message."""
    fault, about = incident.last, incident.last.about
    more = f"{incident.fresh} more in {spell(now - incident.said)}, last at {clock(fault.wall)}."
    lines = [
        more,
        "" if incident.failing else "It works at the moment.",
        _said(fault, label),
        about.do.en,
        fault.reset,
        _where(fault),
    ]
    return _notice(f"{_title(fault, label)}, {incident.fresh} more", lines, incident, about.priority, about.tag)


def storm(incident: Incident, label: str, now: float) -> Notice:
    """Return a silent message about repeats that are not reported yet, sent just before the recovery."""
    fault = incident.last
    more = f"{incident.fresh} more in {spell(now - incident.said)}, last at {clock(fault.wall)}."
    lines = [more, _said(fault, label), _where(fault)]
    return _notice(f"{_title(fault, label)}, {incident.fresh} more", lines, incident, FOLLOW_UP_AT_END, fault.about.tag)


def recovery(incident: Incident, label: str, now: float) -> Notice:
    """Return the recovery message: how long it lasted and how many requests failed."""
    fault = incident.last
    requests = "1 request" if incident.total == 1 else f"{incident.total} requests"
    lines = [
        f"Answers again after {spell(now - incident.opened)}; {requests} failed: {_name(fault)}.",
        "" if fault.ours else f"Upstream {_upstream(fault)}.",
    ]
    return _notice(f"{_who(fault, label)}: works again", lines, incident, RECOVERY, "white_check_mark")


def spell(seconds: float) -> str:
    """Format a duration in seconds: `45 s`, `12 min`, `2 h 5 min`, `3 d 2 h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    big, small, units = (*divmod(minutes, 60), ("h", "min")) if minutes < 1440 else (*divmod(minutes // 60, 24), ("d", "h"))
    return f"{big} {units[0]} {small} {units[1]}" if small else f"{big} {units[0]}"


def clock(wall: float) -> str:
    """Format a Unix time as `12:03 UTC`, since a container's local time is seldom the reader's."""
    return f"{datetime.fromtimestamp(wall, UTC):%H:%M} UTC"


def _notice(title: str, lines: list[str], incident: Incident, priority: int, tag: str) -> Notice:
    return Notice(title, "\n".join(filter(None, lines)), priority, (tag,), incident.sequence)


def _title(fault: Fault, label: str) -> str:
    return f"{_who(fault, label)}: {_name(fault)}"


def _who(fault: Fault, label: str) -> str:
    return OURSELVES if fault.ours else label


def _name(fault: Fault) -> str:
    name = fault.about.name.en
    return f"{name} ({fault.word})" if fault.word.isdigit() else name


def _said(fault: Fault, label: str) -> str:
    if not fault.message:
        return ""
    return f"{label} said: {fault.message}" if fault.quoted else fault.message


def _upstream(fault: Fault) -> str:
    return plain(fault.upstream) or "default"


def _where(fault: Fault) -> str:
    upstream = "" if fault.ours else f"upstream {_upstream(fault)}"
    model = f"model {fault.model}" if fault.model else ""
    status = f"status {fault.status}" if fault.status else ""
    line = ", ".join(filter(None, (upstream, model, status, clock(fault.wall))))
    return f"{line[0].upper()}{line[1:]}."
