"""How to connect a client: the card on *Now* until one has, and a part of *Settings*."""

TEXTS = {
    "running": ("Running", "실행 중"),
    "draining": ("Shutting down", "종료 중"),
    "lost": ("No answer", "응답 없음"),
    "lead": (
        "A self-hosted proxy for the Anthropic API. Point your client at this address; answers stream through byte for byte.",
        "직접 운영하는 Anthropic API 프록시입니다. 클라이언트에 이 주소를 지정하면 응답이 바이트 그대로 스트리밍됩니다.",
    ),
    "address": ("Base URL", "기본 URL"),
    "clients": ("Your client", "클라이언트"),
    "claude_code": ("Claude Code", "Claude Code"),
    "code": ("SDKs and curl", "SDK와 curl"),
    "settings_file": ("~/.claude/settings.json", "~/.claude/settings.json"),
    "auto_mode": (
        "CLAUDE_CODE_AUTO_MODE_SERVER=0: {upstream} does not check tool calls for auto mode, so your Sonnet model does.",
        "CLAUDE_CODE_AUTO_MODE_SERVER=0: {upstream} 쪽은 자동 모드의 도구 호출을 검사하지 않아 Sonnet 모델이 검사합니다.",
    ),
    "timeouts": (
        "The two timeouts work only together: a silent answer gets half an hour instead of six minutes.",
        "두 시간 제한은 함께 설정해야 하며, 응답이 없을 때 6분이 아니라 30분까지 기다립니다.",
    ),
    "key_passes": (
        "<your key> is your key for {upstream}. It passes through unchanged; nothing is kept here.",
        "<your key> 자리에 {upstream} 키를 넣으세요. 키는 그대로 전달되고 여기에 저장되지 않습니다.",
    ),
    "key_asked": (
        "<PROXY_API_KEY> is the key that this proxy was started with. The upstream's own key never leaves it.",
        "<PROXY_API_KEY> 자리에 이 프록시에 설정한 키를 넣으세요. 업스트림 키는 프록시 밖으로 나가지 않습니다.",
    ),
    "key_held": (
        "The proxy holds the key for {upstream}; any token will do. It serves this machine only.",
        "{upstream} 키는 프록시가 가지고 있으므로 토큰은 아무 값이나 됩니다. 이 컴퓨터에서만 쓸 수 있습니다.",
    ),
    "key_both": (
        "<your key> is your key for {upstream} and passes through; <PROXY_API_KEY> is the one this proxy asks for.",
        "<your key> 자리에 그대로 전달될 {upstream} 키를, <PROXY_API_KEY> 자리에 이 프록시에 설정한 키를 넣으세요.",
    ),
    "version": ("Version", "버전"),
    "upstream": ("Upstream", "업스트림"),
    "credential": ("Upstream key", "업스트림 키"),
    "credential_client": ("the client's", "클라이언트의 키"),
    "credential_proxy": ("held by the proxy", "프록시가 보관"),
    "notices": ("ntfy notices", "ntfy 알림"),
}
