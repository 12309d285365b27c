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
    "logins": ("Logins", "로그인"),
    "logins_lead": (
        "Browsers that may look at this page. Logging one out also ends the pages it has open.",
        "이 페이지를 볼 수 있는 브라우저입니다. 로그아웃하면 열려 있는 페이지도 끝납니다.",
    ),
    "login_browser": ("Browser", "브라우저"),
    "login_peer": ("Address", "주소"),
    "login_since": ("Logged in", "로그인"),
    "login_used": ("Last seen", "마지막 사용"),
    "login_until": ("Ends", "만료"),
    "login_act": ("Log out", "로그아웃"),
    "login_this": ("this browser", "이 브라우저"),
    "login_unknown": ("unknown", "알 수 없음"),
    "revoke_one": ("Log out {name}, {peer}", "{name}, {peer} 로그아웃"),
    "revoke_others": ("Log out all others", "다른 모든 브라우저 로그아웃"),
    "revoke_all": ("Log out all", "모두 로그아웃"),
    "no_logins": ("No browser is logged in", "로그인한 브라우저가 없습니다"),
    "no_logins_lead": (
        "A browser of another machine logs in with the link in the proxy's log, or with one that `claude-proxy login` prints.",
        "다른 컴퓨터의 브라우저는 프록시 로그에 있는 링크나 `claude-proxy login`이 출력하는 링크로 로그인합니다.",
    ),
    "logins_memory": (
        "DATA_DIR cannot be written: logins end when the proxy stops.",
        "DATA_DIR에 쓸 수 없어 프록시가 멈추면 로그인도 끝납니다.",
    ),
    "logins_nowhere": (
        "DATA_DIR cannot be written, and several workers have no other place for logins: those with ADMIN_TOKEN end after 12 "
        "hours and cannot be listed or revoked one by one. Make DATA_DIR writable, or change ADMIN_TOKEN to end all.",
        "DATA_DIR에 쓸 수 없고 워커가 여럿이라 로그인을 저장할 곳이 없습니다. ADMIN_TOKEN 로그인은 12시간 뒤에 끝나며 "
        "목록에서 보거나 하나씩 끝낼 수 없습니다. DATA_DIR을 쓸 수 있게 하거나, 모두 끝내려면 ADMIN_TOKEN을 바꾸세요.",
    ),
}
