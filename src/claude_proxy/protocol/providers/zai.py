"""z.ai and, for China, bigmodel.cn: GLM models, coding plans. More on the facts: docs/facts.md, "Providers".

Any of it may change: an unknown code is passed on without an explanation.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date

from claude_proxy.protocol.providers.base import (
    CHECK_ACCOUNT,
    CHECK_KEY,
    CORRECT,
    FEWER,
    OTHER_MODEL,
    SLOWER,
    TOP_UP,
    WAIT,
    Class,
    Code,
    Credits,
    Form,
    Peak,
    Provider,
    Quota,
    Rate,
    ResetForm,
    Text,
    hours,
)
from claude_proxy.protocol.providers.codes import NOT_IN_PLAN, WINDOW_USED_UP

BEIJING = hours(8)
KEY = CHECK_KEY + Text(
    "Coding-plan and pay-as-you-go keys have different endpoints.", "코딩 플랜 키와 종량제 키는 엔드포인트가 서로 다릅니다."
)


def _auth(en: str, ko: str) -> Code:
    return Code(Class.AUTH, Text(en, ko), KEY)


def _account(en: str, ko: str) -> Code:
    return Code(Class.ACCOUNT, Text(en, ko), CHECK_ACCOUNT)


def _client(en: str, ko: str, fix: Text = CORRECT) -> Code:
    return Code(Class.CLIENT, Text(en, ko), fix)


# docs.z.ai/api-reference/api-code and docs.bigmodel.cn/cn/faq/api-code, but for those with a source of their own.
CODES = {
    "1000": _auth("authentication failed", "인증 실패"),
    "1001": _auth("no credential received", "인증 정보 없음"),
    "1002": _auth("credential not valid", "잘못된 인증 정보"),
    "1003": _auth("credential expired", "만료된 인증 정보"),
    "1004": _auth("credential refused", "인증 정보 거부"),
    "1110": _account("account inactive", "비활성 계정"),
    "1111": _account("account does not exist", "없는 계정"),
    "1112": _account("account locked", "잠긴 계정"),
    "1113": Code(Class.ACCOUNT, Text("account in arrears", "잔액 부족"), TOP_UP, urgent=True),
    "1120": _account("account not reachable", "계정 접근 불가"),
    "1121": _account("account suspended", "정지된 계정"),
    "1210": _client("wrong parameter", "잘못된 매개변수"),
    "1211": _client("unknown model", "알 수 없는 모델", OTHER_MODEL),
    "1212": _client("model does not support this call", "모델이 지원하지 않는 호출", OTHER_MODEL),
    "1213": _client("parameter missing", "매개변수 누락"),
    "1214": _client("parameter not valid", "유효하지 않은 매개변수"),
    "1215": _client("parameters exclude each other", "함께 쓸 수 없는 매개변수"),
    "1234": Code(Class.SERVER, Text("network problem at the provider", "제공자 네트워크 장애"), WAIT),
    "1261": _client(
        "prompt too long",
        "너무 긴 프롬프트",
        Text("Compact the conversation, or start a new one.", "대화를 압축하거나 새로 시작하세요."),
    ),
    "1301": _client(
        "refused by the content filter", "콘텐츠 필터가 거부", Text("Word the request differently.", "요청의 표현을 바꿔 보세요.")
    ),
    # Comes long before the quota is used up, from two or three requests at once: zai-org/GLM-4 issue 802, GLM-5 issue 83.
    "1302": Code(Class.CONCURRENCY, Text("concurrency limit", "동시 요청 한도"), FEWER + WAIT),
    "1303": Code(Class.RATE, Text("request frequency limit", "요청 빈도 한도"), SLOWER + WAIT),
    "1304": Code(
        Class.STOP_UNTIL,
        Text("daily call limit", "일일 호출 한도"),
        Text(
            "No more calls today: wait for tomorrow, or use another key.",
            "오늘은 더 호출할 수 없습니다. 내일까지 기다리거나 다른 키를 쓰세요.",
        ),
    ),
    # 529 on the Anthropic path, without `retry-after`: zai-org/GLM-5 issue 87. Of system prompts: repoprompt-ce issue 295.
    "1305": Code(
        Class.OVERLOAD,
        Text("overloaded", "과부하"),
        WAIT
        + Text(
            "If only one client gets it, at every request, the provider may be refusing that client's system prompt.",
            "한 클라이언트에서만 매번 일어난다면 제공자가 그 클라이언트의 시스템 프롬프트를 거부하는 것일 수 있습니다.",
        ),
    ),
    "1308": WINDOW_USED_UP,
    "1309": Code(
        Class.ACCOUNT, Text("plan expired", "플랜 만료"), Text("Renew the coding plan.", "코딩 플랜을 갱신하세요."), urgent=True
    ),
    "1310": Code(
        Class.STOP_UNTIL,
        Text("weekly or monthly quota used up", "주간 또는 월간 한도 소진"),
        Text("Wait for the reset, or use a larger plan.", "초기화될 때까지 기다리거나 더 큰 플랜을 쓰세요."),
    ),
    "1311": NOT_IN_PLAN,
    "1312": Code(
        Class.OVERLOAD,
        Text("model busy", "모델 혼잡"),
        Text("Use another model for a while.", "잠시 다른 모델을 쓰세요.") + WAIT,
        scope="model",
    ),
    # Lasts until the user has written to the support: zai-org/GLM-5 issues 68 and 77.
    "1313": Code(
        Class.ACCOUNT,
        Text("throttled by the fair-use policy", "공정 사용 정책에 따른 제한"),
        Text(
            "The account is restricted for the way it is used. Read the plan's usage policy and ask the support to restore it.",
            "사용 방식 때문에 계정이 제한되었습니다. 플랜의 사용 정책을 읽고 z.ai 고객 지원에 복구를 요청하세요.",
        ),
    ),
}

ZAI = Provider(
    name="zai",
    label="z.ai",
    domains=("z.ai",),
    codes=CODES,
    # `[1302][Too many requests][request-id]`; the last part may be missing, error.code and error.type may repeat the number.
    form=Form(re.compile(r"\[(?P<code>\d{3,5})\]\s*\[(?P<text>.*?)\](?:\s*\[[^\]]*\])?\s*$", re.DOTALL), distinct=True),
    numbers=range(1100, 1400),  # below them, other providers have meanings of their own
    # Written without a zone; users measured UTC+8 (docs/facts.md).
    resets=(ResetForm(re.compile(r"reset at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)"), BEIJING, assumed=True),),
    # z.ai's own plugin for Claude Code.
    quota=Quota("/api/monitor/usage/quota/limit", "raw", {"Accept-Language": "en-US,en"}),
    concurrency=2,  # the two issues of 1302
    peak=Peak(((14, 18),), BEIJING),  # docs.z.ai/devpack/overview
    credits=Credits(
        since=date(2026, 7, 30),
        rates={
            **dict.fromkeys(("glm-5.3", "glm-5.2", "glm-5.1"), Rate(6.9, 1.7, 24)),
            "glm-5-turbo": Rate(5.7, 1.5, 21),
            "glm-4.7": Rate(4.6, 1.2, 16),
        },
        off_peak=0.5,
        allowances={"lite": (2_000, 10_000), "pro": (12_000, 60_000), "max": (28_000, 140_000)},
    ),
    models={"FABLE": "glm-5.3", "OPUS": "glm-5.3", "SONNET": "glm-5.3", "HAIKU": "glm-5.3-flash"},
    # Of all models that Claude Code knows, only this one allows long prompts and 128,000 tokens of output like both GLM models,
    # gets the short system prompt like an unknown model, and is not an Opus.
    resembles={"glm-5.3": "claude-sonnet-5-5", "glm-5.3-flash": "claude-sonnet-5-5"},
    families=("glm-",),
    sample_model="glm-5.3",
    sources=("docs.z.ai/api-reference/api-code", "docs.z.ai/devpack/overview", "docs.bigmodel.cn/cn/faq/api-code"),
)
PROVIDERS = (ZAI, replace(ZAI, name="bigmodel", label="bigmodel.cn", domains=("bigmodel.cn",)))
