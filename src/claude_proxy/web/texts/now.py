"""Now: what is running, is it healthy?"""

TEXTS = {
    "running": ("Running", "실행 중"),
    "finished": ("Last finished", "최근 완료"),
    "nothing_runs": ("Nothing is running", "실행 중인 교환이 없습니다"),
    "nothing_runs_lead": ("A request appears here while it is answered.", "요청이 처리되는 동안 여기에 표시됩니다."),
    "exchange": ("Exchange", "교환"),
    "model": ("Model", "모델"),
    "session": ("Session", "세션"),
    "state": ("State", "상태"),
    "time": ("Time", "시간"),
    "duration": ("Duration", "소요 시간"),
    "first_byte": ("First byte", "첫 바이트"),
    "tokens": ("Tokens", "토큰"),
    "cost": ("Cost", "비용"),
    "per_minute": ("Requests per minute", "분당 요청"),
    "requests": ("requests", "요청"),
    "errors": ("errors", "오류"),
    "last_hour": ("in the last hour", "최근 1시간"),
}
