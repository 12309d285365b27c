"""Settings: what is in force and why?"""

TEXTS = {
    "lead": ("What is in force, and where each value comes from.", "적용 중인 값과 각 값의 출처입니다."),
    "name": ("Setting", "설정"),
    "value": ("Value", "값"),
    "source": ("From", "출처"),
    "default": ("default", "기본값"),
    "hidden": ("set, not shown", "설정됨, 표시하지 않음"),
    "changed": ("In force", "적용 중"),
    "nothing_changed": ("Every setting has its default", "모든 설정이 기본값입니다"),
    "nothing_changed_lead": (
        "Set one as an environment variable or in claude-proxy.toml, then start again.",
        "환경 변수나 claude-proxy.toml에서 설정한 뒤 다시 시작하세요.",
    ),
    "defaults": ("{count} setting has its default|{count} settings have their defaults", "기본값인 설정 {count}개"),
    "connect": ("Connect a client", "클라이언트 연결"),
    "doctor": ("Doctor", "진단"),
    "doctor_lead": (
        "Checks settings, network, TLS, upstream, key and clock. Nothing it does is billed; it takes up to 15 seconds.",
        "설정, 네트워크, TLS, 업스트림, 키, 시계를 검사합니다. 요금이 청구되지 않으며 최대 15초가 걸립니다.",
    ),
    "examine": ("Look around", "진단 시작"),
    "examining": ("Looking around…", "진단 중…"),
    "check_ok": ("in order", "정상"),
    "check_warn": ("to note", "주의"),
    "check_fail": ("failed", "실패"),
    "fix": ("Fix", "조치"),
}
