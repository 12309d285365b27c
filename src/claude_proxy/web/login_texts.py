"""The texts of the login page and of the page for those who have not logged in, in English and Korean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_proxy.web.negotiation import Language


@dataclass(frozen=True, slots=True)
class LoginTexts:
    """All texts in one language: plain text, with `{...}` for `str.format`."""

    language: Language
    title: str
    lead: str
    field: str
    field_only: str
    submit: str
    logged_in: str
    open_page: str
    wrong: str
    throttled: str
    failed: str
    locked_title: str
    locked_lead: str
    to_login: str
    how: str
    log: str
    another: str
    no_container: str
    instead: str
    only_way: str
    other_language: str


ENGLISH = LoginTexts(
    language="en",
    title="Log in",
    lead="The page shows what goes through this proxy, so it is as private as a key.",
    field="Code or ADMIN_TOKEN",
    field_only="ADMIN_TOKEN",
    submit="Log in",
    logged_in="This browser may already see the page.",
    open_page="Open it",
    wrong="This is not a valid code or token. A code works once and for 15 minutes; below is how to get another.",
    throttled="Too many wrong tries. Try again in {seconds} seconds.",
    failed="The login failed: {reason}",
    locked_title="Log in to see this page",
    locked_lead="It shows what goes through this proxy, so it is as private as a key. Your clients need no login.",
    to_login="Enter a code or ADMIN_TOKEN",
    how="How to log in",
    log="At its start the proxy writes a link into its log. It works once and for 15 minutes.",
    another="Later, this prints another one.",
    no_container="Without a container, run this where the proxy runs.",
    instead="If ADMIN_TOKEN is set at the proxy, you can enter it instead of a code.",
    only_way="This proxy runs several workers and cannot write to DATA_DIR, so only ADMIN_TOKEN works here.",
    other_language="한국어",
)

KOREAN = LoginTexts(
    language="ko",
    title="로그인",
    lead="이 페이지에는 프록시를 지나는 내용이 나오므로 키처럼 보호됩니다.",
    field="코드 또는 ADMIN_TOKEN",
    field_only="ADMIN_TOKEN",
    submit="로그인",
    logged_in="이 브라우저는 이미 페이지를 볼 수 있습니다.",
    open_page="열기",
    wrong="올바른 코드나 토큰이 아닙니다. 코드는 15분 동안 한 번만 쓸 수 있습니다. 새 코드를 받는 방법은 아래에 있습니다.",
    throttled="잘못된 시도가 너무 많습니다. {seconds}초 뒤에 다시 시도하세요.",
    failed="로그인하지 못했습니다: {reason}",
    locked_title="로그인이 필요합니다",
    locked_lead="이 페이지에는 프록시를 지나는 내용이 나오므로 키처럼 보호됩니다. 클라이언트에는 로그인이 필요 없습니다.",
    to_login="코드 또는 ADMIN_TOKEN 입력",
    how="로그인 방법",
    log="프록시는 시작할 때 로그에 링크를 남깁니다. 링크는 15분 동안 한 번만 쓸 수 있습니다.",
    another="나중에는 다음 명령으로 새 링크를 받습니다.",
    no_container="컨테이너가 아니면 프록시가 실행되는 곳에서 다음 명령을 실행하세요.",
    instead="프록시에 ADMIN_TOKEN이 설정되어 있으면 코드 대신 입력할 수 있습니다.",
    only_way="이 프록시는 워커가 여러 개이고 DATA_DIR에 쓸 수 없어 ADMIN_TOKEN으로만 로그인할 수 있습니다.",
    other_language="English",
)


def login_texts_in(language: Language) -> LoginTexts:
    """Return the texts in `language`."""
    return KOREAN if language == "ko" else ENGLISH
