"""The text of the start page, in English and Korean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_proxy.web.facts import PageFacts
    from claude_proxy.web.negotiation import Language


@dataclass(frozen=True, slots=True)
class Texts:
    """All texts of the page in one language: plain text, with `{...}` for `str.format`."""

    language: Language
    running: str
    draining: str
    lost: str
    lead: str
    address: str
    clients: str
    copy: str
    copied: str
    claude_code: str
    code: str
    settings_file: str
    auto_mode: str
    timeouts: str
    key_passes: str
    key_asked: str
    key_held: str
    key_both: str
    version: str
    upstream: str
    credential: str
    credential_client: str
    credential_proxy: str
    notices: str
    on: str
    off: str
    more: str
    docs: str
    reference: str
    openapi: str
    health: str
    ready: str
    other_language: str

    def key_note(self, facts: PageFacts) -> str:
        """Return one or two sentences that say what to use as the credential."""
        if facts.holds_credential:
            note = self.key_asked if facts.needs_key else self.key_held
        else:
            note = self.key_both if facts.needs_key else self.key_passes
        return note.format(upstream=facts.upstreams[0].host)

    def client_note(self, facts: PageFacts) -> str:
        """Explain the variables whose purpose is not obvious."""
        return (
            self.timeouts if facts.checks_tools else f"{self.auto_mode} {self.timeouts}".format(upstream=facts.upstreams[0].host)
        )


ENGLISH = Texts(
    language="en",
    running="Running",
    draining="Shutting down",
    lost="No answer",
    lead="A self-hosted proxy for the Anthropic API. Point your client at this address; answers stream through byte for byte.",
    address="Base URL",
    clients="Your client",
    copy="Copy",
    copied="Copied",
    claude_code="Claude Code",
    code="SDKs and curl",
    settings_file="~/.claude/settings.json",
    auto_mode="CLAUDE_CODE_AUTO_MODE_SERVER=0: {upstream} does not check tool calls for auto mode, so your Sonnet model does.",
    timeouts="The two timeouts work only together: a silent answer gets half an hour instead of six minutes.",
    key_passes="<your key> is your key for {upstream}. It passes through unchanged; nothing is kept here.",
    key_asked="<PROXY_API_KEY> is the key that this proxy was started with. The upstream's own key never leaves it.",
    key_held="The proxy holds the key for {upstream}; any token will do. It serves this machine only.",
    key_both="<your key> is your key for {upstream} and passes through; <PROXY_API_KEY> is the one this proxy asks for.",
    version="Version",
    upstream="Upstream",
    credential="Upstream key",
    credential_client="the client's",
    credential_proxy="held by the proxy",
    notices="ntfy notices",
    on="on",
    off="off",
    more="More",
    docs="API docs",
    reference="Reference",
    openapi="OpenAPI",
    health="Health",
    ready="Ready",
    other_language="한국어",
)

KOREAN = Texts(
    language="ko",
    running="실행 중",
    draining="종료 중",
    lost="응답 없음",
    lead="직접 운영하는 Anthropic API 프록시입니다. 클라이언트에 이 주소를 지정하면 응답이 바이트 그대로 스트리밍됩니다.",
    address="기본 URL",
    clients="클라이언트",
    copy="복사",
    copied="복사됨",
    claude_code="Claude Code",
    code="SDK와 curl",
    settings_file="~/.claude/settings.json",
    auto_mode="CLAUDE_CODE_AUTO_MODE_SERVER=0: {upstream} 쪽은 자동 모드의 도구 호출을 검사하지 않아 Sonnet 모델이 검사합니다.",
    timeouts="두 시간 제한은 함께 설정해야 하며, 응답이 없을 때 6분이 아니라 30분까지 기다립니다.",
    key_passes="<your key> 자리에 {upstream} 키를 넣으세요. 키는 그대로 전달되고 여기에 저장되지 않습니다.",
    key_asked="<PROXY_API_KEY> 자리에 이 프록시에 설정한 키를 넣으세요. 업스트림 키는 프록시 밖으로 나가지 않습니다.",
    key_held="{upstream} 키는 프록시가 가지고 있으므로 토큰은 아무 값이나 됩니다. 이 컴퓨터에서만 쓸 수 있습니다.",
    key_both="<your key> 자리에 그대로 전달될 {upstream} 키를, <PROXY_API_KEY> 자리에 이 프록시에 설정한 키를 넣으세요.",
    version="버전",
    upstream="업스트림",
    credential="업스트림 키",
    credential_client="클라이언트의 키",
    credential_proxy="프록시가 보관",
    notices="ntfy 알림",
    on="켜짐",
    off="꺼짐",
    more="더 보기",
    docs="API 문서",
    reference="레퍼런스",
    openapi="OpenAPI",
    health="상태",
    ready="준비 상태",
    other_language="English",
)


def texts_in(language: Language) -> Texts:
    """Return the texts in `language`."""
    return KOREAN if language == "ko" else ENGLISH
