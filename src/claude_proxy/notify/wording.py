"""The text of notices, in English and Korean: what fails, whose side it is, when it resets, what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, tzinfo

from claude_proxy import ids
from claude_proxy.notify import phrases
from claude_proxy.notify.events import Figures, QuotaWindow
from claude_proxy.notify.fault import Fault
from claude_proxy.notify.incident import End, Incident
from claude_proxy.notify.notice import SILENT, Notice
from claude_proxy.notify.phrases import OURSELVES, Phrases
from claude_proxy.protocol.providers.base import Language

DEFAULT = 3
HIGH = 4


class Wording:
    """Writes notices.

    Args:
        language: of the text.
        zone: of the times in it.
        public_url: where a browser reaches this proxy; "" for no links.
        wall: turns the rules' clock into Unix seconds.
    """

    def __init__(
        self,
        language: Language = "en",
        zone: tzinfo = UTC,
        public_url: str = "",
        wall: Callable[[float], float] = lambda now: now,
    ) -> None:
        self._language = language
        self._say: Phrases = phrases.KOREAN if language == "ko" else phrases.ENGLISH
        self._zone = zone
        self._public_url = public_url
        self._wall = wall

    # -- incidents

    def opening(self, incident: Incident, now: float) -> Notice:
        """The first message: what fails and what to do."""
        about = incident.last.about
        lines = [about.do.to(self._language), self._reset(incident.last, now), self._counts(incident, now)]
        lines += [self._said(incident.last), self._where(incident)]
        return self._notice(self._title(incident.last), lines, incident, about.priority, about.tag)

    def update(self, incident: Incident, now: float) -> Notice:
        """The same, brought up to date: it replaces the first message silently."""
        about = incident.last.about
        lines = [self._counts(incident, now), self._at_the_moment(incident)]
        lines += [self._said(incident.last), about.do.to(self._language), self._reset(incident.last, now), self._where(incident)]
        title = self._unstable(incident) if incident.unstable_until else self._title(incident.last)
        if incident.total > 1:
            title = self._say.failed_so_far.format(title=title, n=incident.total)
        return self._notice(title, lines, incident, SILENT, about.tag, update=True)

    def unstable(self, incident: Incident, openings: int, now: float) -> Notice:
        """It comes and goes: the last message that makes a sound for an hour."""
        about = incident.last.about
        lines = [self._say.comes_and_goes.format(n=openings), self._counts(incident, now), about.do.to(self._language)]
        title = self._unstable(incident)
        return self._notice(title, [*lines, self._where(incident)], incident, about.priority, "twisted_rightwards_arrows")

    def closing(self, incident: Incident, end: End, now: float) -> Notice:
        """The last message: what it was, how long it lasted and how many requests failed. The first one is gone by then."""
        fault = incident.last
        title = self._say.closed[end].format(who=who(fault), name=self._name(fault))
        if incident.lasting:
            lines = [self._say.lasted.format(spell=self.spell(now - incident.opened))]
            lines += [f"{self._say.n_failed(incident.total)}."] if incident.total else []
        else:
            lines = [self._was(incident, now), self._counts(incident, now, ended=True)]
            lines += [self._say.why_closed[end], self._where(incident)]
        priority = DEFAULT if end is End.RESET else SILENT
        return self._notice(title, lines, incident, priority, "white_check_mark")

    def line(self, incident: Incident, now: float) -> str:
        """The incident in one line, for a digest."""
        fault, over = incident.last, incident.closed_at is not None
        state = self._say.was_over if over else self._say.goes_on
        span = f"{self.clock(incident.opened)}-{self.clock(incident.closed_at or now)}"
        count = self._say.n_failed(incident.total) if incident.total else ""
        return " · ".join(filter(None, (self._title(fault), span, count, state)))

    def slowness(self, lately: float, usual: float) -> str:
        """How slow an upstream is, compared with itself."""
        return self._say.slowness.format(lately=self.spell(lately), usual=self.spell(usual))

    def last_seen(self, wall: float) -> str:
        """When a process that was killed gave its last sign of life."""
        return self._say.last_seen.format(time=f"{datetime.fromtimestamp(wall, self._zone):%Y-%m-%d %H:%M %Z}")

    # -- quota

    def quota(self, label: str, window: QuotaWindow, level: int, now: float) -> tuple[str, str]:
        """Title and message for a window whose share reached `level` percent."""
        name = self._window(window.name)
        title = (self._say.quota_used_up if level >= 100 else self._say.quota_used).format(who=label, window=name, n=level)
        lines = [self._resets_at(window.resets_at, now), self._say.quota_do[level]]
        return title, "\n".join(filter(None, lines))

    def quota_reset(self, label: str, name: str) -> tuple[str, str]:
        """Title and message for a window that has begun again."""
        return self._say.quota_reset.format(who=label, window=self._window(name)), self._say.quota_reset_do

    # -- collections

    def digest(self, lines: Sequence[str], *, overnight: bool) -> tuple[str, str]:
        """Title and message of what was not pushed one by one."""
        title = self._say.quiet_summary if overnight else self._say.digest
        return title.format(n=len(lines)), "\n".join(f"• {line}" for line in lines)

    def daily(self, figures: Figures, answered: int, failed: int, hidden: int, incidents: Sequence[str]) -> tuple[str, str]:
        """Title and message of the daily summary. The books' figures are used where there are any."""
        requests = answered + failed if figures.exchanges is None else figures.exchanges
        lines = [
            self._say.daily_requests.format(n=requests, failed=failed if figures.failed is None else figures.failed),
            self._say.daily_hidden.format(n=hidden) if hidden else "",
            "" if figures.tokens is None else self._say.daily_tokens.format(n=f"{figures.tokens:,}"),
            "" if figures.cost_usd is None else self._say.daily_cost.format(usd=f"{figures.cost_usd:,.2f}"),
            *([f"• {line}" for line in incidents] or [self._say.daily_quiet]),
        ]
        return self._say.daily_title.format(spell=self.spell(figures.until - figures.since)), "\n".join(filter(None, lines))

    def crashing(self, incident: Incident, openings: int, now: float) -> Notice:
        """It was killed again and again: nothing more is said for an hour."""
        notice = self.opening(incident, now)
        return self._notice(
            self._say.crashing.format(n=openings), [self._say.silent_for_an_hour, notice.message], incident, HIGH, "boom"
        )

    # -- parts

    def spell(self, seconds: float) -> str:
        """A duration: `45 s`, `12 min`, `2 h 5 min`, `3 d 2 h`."""
        return self._say.spell(seconds)

    def clock(self, now: float) -> str:
        """A time of day in the user's zone: `12:03`."""
        return f"{datetime.fromtimestamp(self._wall(now), self._zone):%H:%M}"

    def _notice(
        self, title: str, lines: Sequence[str], incident: Incident, priority: int, tag: str, update: bool = False
    ) -> Notice:
        message = "\n".join(filter(None, lines))
        link = f"{self._public_url}/upstreams#incident-{ids.encode(incident.id)}" if self._public_url else ""
        return Notice(title, message, priority, (tag,), incident.sequence, link, self._say.open_page if link else "", update)

    def _title(self, fault: Fault) -> str:
        return f"{who(fault)}: {self._name(fault)}"

    def _unstable(self, incident: Incident) -> str:
        return self._say.unstable.format(who=who(incident.last), name=self._name(incident.last))

    def _name(self, fault: Fault) -> str:
        name = fault.about.name.to(self._language)
        return f"{name} ({fault.word})" if fault.word.isdigit() else name

    def _said(self, fault: Fault) -> str:
        if not fault.message:
            return ""
        return self._say.said.format(who=fault.label, words=fault.message) if fault.quoted else fault.message

    def _was(self, incident: Incident, now: float) -> str:
        """What failed, and from when to when: `Overloaded (1305), 22:10 - 06:12.`"""
        opened, failed_at = self._wall(incident.opened), self._wall(incident.failed_at)
        first, last = self._moment(opened, self._wall(now)), self._moment(failed_at, opened)
        name = self._name(incident.last)
        return f"{name[0].upper()}{name[1:]}, {first if first == last else f'{first} - {last}'}."

    def _counts(self, incident: Incident, now: float, *, ended: bool = False) -> str:
        if incident.lasting or (incident.total < 2 and not ended):
            return ""
        failed, until = self._say.n_failed(incident.total), incident.failed_at if ended else now
        long = until - incident.opened >= 1
        line = self._say.failed_in.format(n=failed, spell=self.spell(until - incident.opened)) if long else failed
        if len(incident.counts) == 1:
            return f"{line}."
        parts = sorted(incident.counts.items(), key=lambda item: -item[1])
        return f"{line}: " + ", ".join(f"{incident.names[word].to(self._language)} ×{count}" for word, count in parts) + "."

    def _at_the_moment(self, incident: Incident) -> str:
        last = "" if incident.lasting else self._say.last_at.format(time=self.clock(incident.failed_at))
        return f"{last} {self._say.works_now}" if incident.good else last

    def _reset(self, fault: Fault, now: float) -> str:
        sentence = self._resets_at(fault.reset_at, now)
        if sentence and fault.assumed:
            sentence += " " + self._say.assumed.format(stated=fault.stated, zone=fault.assumed)
        return sentence

    def _resets_at(self, at: float | None, now: float) -> str:
        if at is None:
            return ""
        left = at - self._wall(now)
        wait = self._say.in_spell.format(spell=self.spell(left)) if left > 0 else ""
        zone = f"{datetime.fromtimestamp(at, self._zone):%Z}"
        return self._say.resets.format(time=f"{self._moment(at, self._wall(now))} {zone}", wait=wait)

    def _moment(self, at: float, near: float) -> str:
        """A Unix time in the user's zone, with its date if that is not the date of `near`."""
        local, other = (datetime.fromtimestamp(time, self._zone) for time in (at, near))
        return f"{local:%H:%M}" if local.date() == other.date() else f"{local:%Y-%m-%d %H:%M}"

    def _where(self, incident: Incident) -> str:
        fault = incident.last
        parts = (
            self._say.upstream.format(name=place(fault)) if not fault.ours else "",
            self._say.model.format(name=fault.model) if fault.model else "",
            self._say.status.format(code=fault.status) if fault.status else "",
            f"{datetime.fromtimestamp(self._wall(incident.failed_at), self._zone):%H:%M %Z}",
        )
        line = ", ".join(filter(None, parts))
        return f"{line[0].upper()}{line[1:]}."

    def _window(self, name: str) -> str:
        return self._say.windows.get(name, name)


def place(fault: Fault) -> str:
    """The upstream, and the account where that matters: `zai/work`."""
    upstream = fault.upstream or "default"
    return f"{upstream}/{fault.account}" if fault.about.of_account and fault.account else upstream


def who(fault: Fault) -> str:
    """Whose side it is, in one word: the upstream's name, or ours."""
    return OURSELVES if fault.ours else fault.label
