"""Upstreams: who is in trouble?"""

TEXTS = {
    "lead": ("Where requests go, and how it is going there.", "요청이 어디로 가고, 그곳의 상태는 어떤지 보여줍니다."),
    "name": ("Upstream", "업스트림"),
    "state": ("State", "상태"),
    "up": ("up", "정상"),
    "running": ("Running", "실행 중"),
    "connections": ("Connections", "연결"),
    "credential": ("Key", "키"),
    "held": ("held by the proxy", "프록시가 보관"),
    "client": ("the client's", "클라이언트의 키"),
    "incidents": ("Incidents", "장애"),
    "no_incidents": ("Nothing has gone wrong lately", "최근 문제가 없습니다"),
    "no_incidents_lead": (
        "Errors of an upstream appear here with what they mean and what to do.",
        "업스트림 오류가 생기면 의미와 조치 방법이 여기에 표시됩니다.",
    ),
    "notices_off": (
        "Notices are off. Set NTFY_TOPIC, and errors also reach your phone and this list.",
        "알림이 꺼져 있습니다. NTFY_TOPIC을 설정하면 오류가 휴대전화와 이 목록에 표시됩니다.",
    ),
}
