"""The fixed phrases of notices in each language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from claude_proxy.notify.incident import End

OURSELVES = "claude-proxy"  # in place of an upstream's name if the proxy or its machine is at fault


@dataclass(frozen=True, slots=True)
class Phrases:
    """Templates for `str.format`; `units` are seconds, minutes, hours and days."""

    units: tuple[str, str, str, str]
    one_failed: str
    many_failed: str
    failed_in: str
    failed_so_far: str
    last_at: str
    works_now: str
    said: str
    resets: str
    in_spell: str
    assumed: str
    upstream: str
    model: str
    status: str
    open_page: str
    unstable: str
    comes_and_goes: str
    closed: Mapping[End, str]
    why_closed: Mapping[End, str]
    lasted: str
    was_over: str
    goes_on: str
    quota_used: str
    quota_used_up: str
    quota_do: Mapping[int, str]
    quota_reset: str
    quota_reset_do: str
    windows: Mapping[str, str]
    digest: str
    quiet_summary: str
    crashing: str
    silent_for_an_hour: str
    last_seen: str
    slowness: str
    daily_title: str
    daily_requests: str
    daily_hidden: str
    daily_tokens: str
    daily_cost: str
    daily_quiet: str

    def n_failed(self, count: int) -> str:
        """`1 request failed`, `37 requests failed`."""
        return self.one_failed if count == 1 else self.many_failed.format(n=count)

    def spell(self, seconds: float) -> str:
        """A duration in the two largest units."""
        second, minute, hour, day = self.units
        whole = max(0, round(seconds))
        if whole < 60:
            return f"{whole}{second}"
        minutes = round(whole / 60)
        if minutes < 60:
            return f"{minutes}{minute}"
        if minutes < 1440:
            big, small, units = *divmod(minutes, 60), (hour, minute)
        else:
            big, small, units = *divmod(round(minutes / 60), 24), (day, hour)
        return f"{big}{units[0]} {small}{units[1]}" if small else f"{big}{units[0]}"


ENGLISH = Phrases(
    units=(" s", " min", " h", " d"),
    one_failed="1 request failed",
    many_failed="{n} requests failed",
    failed_in="{n} in {spell}",
    failed_so_far="{title}, {n} failed",
    last_at="Last at {time}.",
    works_now="The latest request got its answer.",
    said="{who} said: {words}",
    resets="Resets at {time}{wait}.",
    in_spell=", in {spell}",
    assumed="({stated} by the provider's clock, which is probably {zone}.)",
    upstream="upstream {name}",
    model="model {name}",
    status="status {code}",
    open_page="Open",
    unstable="{who}: unstable ({name})",
    comes_and_goes="It failed and recovered {n} times within 30 minutes. This message is updated silently from now on.",
    closed={
        End.WORKS: "{who}: works again",
        End.QUIET: "{who}: no more failures",
        End.RESET: "{who}: usable again",
        End.OVER: "{who}: {name}: over",
    },
    why_closed={
        End.WORKS: "New requests get their answers.",
        End.QUIET: "No request has failed since, but none has shown that it works either.",
        End.RESET: "The provider's reset time has come.",
        End.OVER: "",
    },
    lasted="It lasted {spell}.",
    was_over="over",
    goes_on="still going on",
    quota_used="{who}: {n} % of the {window} quota used",
    quota_used_up="{who}: {window} quota used up",
    quota_do={
        80: "",
        95: "Finish what matters first, or slow down.",
        100: "Requests fail until the reset, unless another plan or upstream takes over.",
    },
    quota_reset="{who}: {window} quota has been reset",
    quota_reset_do="Requests go through again.",
    windows={"5h": "5-hour", "week": "weekly", "month": "monthly"},
    digest="claude-proxy: more notices ({n})",
    quiet_summary="claude-proxy: during the quiet hours ({n})",
    crashing="claude-proxy: killed {n} times within 30 minutes",
    silent_for_an_hour="Nothing more is said about this for an hour.",
    last_seen="It was last seen at {time}.",
    slowness="The median answer took {lately} to begin; {usual} is usual.",
    daily_title="claude-proxy: the last {spell}",
    daily_requests="Requests: {n}, failed: {failed}.",
    daily_hidden="Failed attempts that a retry hid: {n}.",
    daily_tokens="Tokens: {n}.",
    daily_cost="{usd} USD at list price.",
    daily_quiet="No incidents.",
)
KOREAN = Phrases(
    units=("초", "분", "시간", "일"),
    one_failed="요청 1건 실패",
    many_failed="요청 {n}건 실패",
    failed_in="{spell} 동안 {n}",
    failed_so_far="{title}, {n}건 실패",
    last_at="마지막 실패 {time}.",
    works_now="가장 최근 요청은 응답을 받았습니다.",
    said="{who} 메시지: {words}",
    resets="{time}에 초기화됩니다{wait}.",
    in_spell="({spell} 후)",
    assumed="(제공자 시각으로 {stated}이며, 아마 {zone}입니다.)",
    upstream="업스트림 {name}",
    model="모델 {name}",
    status="상태 {code}",
    open_page="열기",
    unstable="{who}: 불안정({name})",
    comes_and_goes="30분 사이에 {n}번 실패했다가 복구되었습니다. 지금부터는 이 메시지를 소리 없이 갱신합니다.",
    closed={
        End.WORKS: "{who}: 다시 정상",
        End.QUIET: "{who}: 더 이상 실패 없음",
        End.RESET: "{who}: 다시 사용 가능",
        End.OVER: "{who}: {name}: 해소됨",
    },
    why_closed={
        End.WORKS: "새 요청이 정상적으로 응답받고 있습니다.",
        End.QUIET: "그 뒤로 실패한 요청은 없지만, 정상임을 확인한 요청도 없습니다.",
        End.RESET: "제공자가 알려 준 초기화 시각이 되었습니다.",
        End.OVER: "",
    },
    lasted="{spell} 동안 이어졌습니다.",
    was_over="종료",
    goes_on="계속 중",
    quota_used="{who}: {window} 한도의 {n}% 사용",
    quota_used_up="{who}: {window} 한도 소진",
    quota_do={
        80: "",
        95: "중요한 작업부터 마치거나 속도를 줄이세요.",
        100: "다른 요금제이나 업스트림이 이어받지 않는 한, 초기화될 때까지 요청이 실패합니다.",
    },
    quota_reset="{who}: {window} 한도가 초기화됨",
    quota_reset_do="요청이 다시 처리됩니다.",
    windows={"5h": "5시간", "week": "주간", "month": "월간"},
    digest="claude-proxy: 그 밖의 알림 {n}건",
    quiet_summary="claude-proxy: 방해 금지 시간의 알림 {n}건",
    crashing="claude-proxy: 30분 사이에 {n}번 강제 종료됨",
    silent_for_an_hour="앞으로 한 시간 동안은 이에 대해 알리지 않습니다.",
    last_seen="마지막 확인 시각 {time}.",
    slowness="응답 시작까지 중앙값 {lately} 걸렸습니다. 평소에는 {usual}입니다.",
    daily_title="claude-proxy: 지난 {spell}",
    daily_requests="요청 {n}건, 실패 {failed}건.",
    daily_hidden="실패한 시도 {n}건은 재시도로 가려졌습니다.",
    daily_tokens="토큰 {n}개.",
    daily_cost="정가 기준 {usd} USD.",
    daily_quiet="장애 없음.",
)
