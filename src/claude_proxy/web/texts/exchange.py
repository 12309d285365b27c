"""Exchange: why was this slow, wrong, expensive?"""

TEXTS = {
    "no_id": (
        "This is not the id of an exchange: those begin with cp_ and have 13 more characters.",
        "교환 ID가 아닙니다. 교환 ID는 cp_로 시작하고 그 뒤에 13자가 있습니다.",
    ),
    "not_found": (
        "No exchange of this id is in the books: it was mistyped, or deleted because of its age (LEDGER_KEEP).",
        "이 ID의 교환은 기록에 없습니다. ID가 다르거나 보관 기간(LEDGER_KEEP)이 지나 삭제되었습니다.",
    ),
    "running": ("Still running", "아직 실행 중"),
    "still_running": (
        "This exchange is not over: {state}. The page shows it as soon as it has ended.",
        "아직 끝나지 않은 교환입니다({state}). 끝나면 이 페이지에 바로 표시됩니다.",
    ),
    "previous": ("Previous in the session", "세션의 이전 요청"),
    "next": ("Next in the session", "세션의 다음 요청"),
    "copy_id": ("Copy id", "ID 복사"),
    "duration": ("Duration", "소요 시간"),
    "first_byte": ("First byte", "첫 바이트"),
    "tokens": ("Tokens", "토큰"),
    "cached": ("From the cache", "캐시 비율"),
    "cost": ("Cost", "비용"),
    "credits": ("Plan credits", "요금제 크레딧"),
    "per_second": ("{n} tokens/s", "초당 {n} 토큰"),
    "in_out": ("{input} in, {output} out", "입력 {input}, 출력 {output}"),
    "no_tokens": ("none reported", "보고되지 않음"),
    "no_charge": ("nothing was reported to pay for", "청구할 사용량이 보고되지 않음"),
    "list_price": ("API list price", "API 정가"),
    # Where the time went
    "time": ("Where the time went", "시간 내역"),
    "queued": ("It waited {time} in this proxy before it was sent.", "전송 전에 이 프록시에서 {time} 기다렸습니다."),
    "no_byte": ("No answer had come when it ended after {time}.", "응답이 오지 않은 채 {time} 만에 끝났습니다."),
    "streamed": (
        "The first byte came after {first}, and the answer streamed for another {rest}.",
        "첫 바이트는 {first} 만에 왔고, 그 뒤 {rest} 동안 응답이 이어졌습니다.",
    ),
    "answered": ("The answer came whole after {time}.", "응답은 {time} 만에 한 번에 왔습니다."),
    "silent": (
        "The longest silence in it was {time}; pings kept the connection open.",
        "가장 긴 무응답은 {time}였으며, 그동안 핑으로 연결을 유지했습니다.",
    ),
    "attempts": ("Attempts", "시도"),
    "reused": ("on an open connection", "기존 연결 사용"),
    "fresh": ("on a new connection", "새 연결"),
    "passed_on": ("passed on", "클라이언트에 전달"),
    # What went wrong
    "what": ("What happened", "무슨 일이 있었나"),
    "said": ("The upstream's words", "업스트림의 메시지"),
    "side_client": ("The client's side has to act.", "클라이언트 쪽에서 조치해야 합니다."),
    "side_upstream": ("It was on the upstream's side.", "업스트림 쪽 문제입니다."),
    "side_proxy": ("It was on this proxy's side.", "이 프록시 쪽 문제입니다."),
    "what_refused": (
        "The request was refused before it went out, because something in it has to change.",
        "요청에 고쳐야 할 것이 있어 보내기 전에 거부했습니다.",
    ),
    "what_failed": ("There was no answer to pass on.", "전달할 응답이 없었습니다."),
    "what_unfinished": (
        "The upstream ended its answer before it was complete. Clients usually ask again by themselves.",
        "업스트림이 응답을 끝내기 전에 스트림을 닫았습니다. 클라이언트는 보통 스스로 다시 요청합니다.",
    ),
    "what_cut": (
        "The upstream's answer broke off; the client got a broken answer too.",
        "업스트림의 응답이 중간에 끊겨 클라이언트에도 끊긴 응답이 전달되었습니다.",
    ),
    "what_stalled": (
        "The upstream sent nothing until STREAM_IDLE_TIMEOUT, so the answer was cut.",
        "STREAM_IDLE_TIMEOUT 동안 업스트림이 아무것도 보내지 않아 응답을 끊었습니다.",
    ),
    "what_cancelled": (
        "The client closed the connection before the end. That is nobody's fault; what was used until then is counted.",
        "클라이언트가 끝나기 전에 연결을 닫았습니다. 장애가 아니며, 그때까지의 사용량은 집계됩니다.",
    ),
    "what_client-stalled": (
        "The client stopped reading the answer, so the exchange was ended.",
        "클라이언트가 응답을 읽지 않아 교환을 끝냈습니다.",
    ),
    "what_aborted": (
        "This proxy was stopped before the answer was complete.",
        "응답이 끝나기 전에 이 프록시가 종료되었습니다.",
    ),
    # The prompt cache
    "cache": ("Prompt cache", "프롬프트 캐시"),
    "prompt": ("Where the prompt's tokens came from", "프롬프트 토큰의 출처"),
    "cache_read_input_tokens": ("read from the cache", "캐시에서 읽음"),
    "cache_creation_input_tokens": ("written to the cache", "캐시에 씀"),
    "input_tokens": ("not cached", "캐시되지 않음"),
    "block": ("block {n}, counted from 0 over tools, system and messages", "{n}번 블록(도구·시스템·메시지 순, 0부터 셈)"),
    "lost": ("{tokens} tokens that had been cached were paid again", "캐시에 있던 {tokens} 토큰을 다시 지불"),
    "cache_none": (
        "There is no verdict: the prompt was short, the request was no part of a conversation, or it was not accepted.",
        "판정이 없습니다. 프롬프트가 짧거나, 대화에 속하지 않는 요청이거나, 받아들여지지 않았습니다.",
    ),
    "cache_unknown": ("The verdict is “{verdict}”.", "판정: “{verdict}”."),
    "cache_first": (
        "The first prompt of its conversation that this proxy saw, so there was nothing to compare it with.",
        "이 프록시가 본 대화의 첫 프롬프트라 비교할 대상이 없습니다.",
    ),
    "cache_grew": (
        "The prompt continues the one before it, and the cache was used.",
        "이전 프롬프트에 이어지는 프롬프트이며 캐시가 사용되었습니다.",
    ),
    "cache_changed": (
        "Something in the prompt changed, so the cache behind it was lost.",
        "프롬프트가 바뀌어 그 뒤의 캐시를 잃었습니다.",
    ),
    "cache_changed_tools": (
        "The list of tools changed. It stands in front of everything, so the whole prompt had to be read again.",
        "도구 목록이 바뀌었습니다. 도구는 맨 앞에 있으므로 프롬프트 전체를 다시 읽어야 했습니다.",
    ),
    "cache_changed_tools_fix": (
        "Usually an MCP server connected, disconnected or changed its tools. Connect servers before a long session starts.",
        "대개 MCP 서버가 연결되거나 끊기거나 도구를 바꾼 경우입니다. 긴 세션을 시작하기 전에 연결하세요.",
    ),
    "cache_changed_system": (
        "The system prompt changed, so it and all messages had to be read again.",
        "시스템 프롬프트가 바뀌어 시스템 프롬프트와 모든 메시지를 다시 읽어야 했습니다.",
    ),
    "cache_changed_system_fix": (
        "Instructions, the output style or something that moves (a date, git status) changed. Edit them between sessions.",
        "지침, 출력 스타일, 또는 날짜나 git 상태처럼 변하는 내용이 바뀐 경우입니다. 세션 사이에 수정하세요.",
    ),
    "cache_changed_message": (
        "Message {message}, which had been sent before, was changed, removed or moved.",
        "이미 보낸 {message}번 메시지가 바뀌거나 빠지거나 옮겨졌습니다.",
    ),
    "cache_changed_message_fix": (
        "The client rewrote the conversation, as compaction or an edited message does. Once is normal, each turn is not.",
        "클라이언트가 대화를 다시 쓴 경우입니다(압축, 되돌리기, 메시지 수정). 한 번은 정상이지만 매 턴이라면 문제입니다.",
    ),
    "cache_changed_model": (
        "The model is another one than before, and each model has a cache of its own.",
        "이전과 다른 모델입니다. 캐시는 모델마다 따로 있습니다.",
    ),
    "cache_changed_model_fix": (
        "Switch models between tasks, not within a long conversation.",
        "긴 대화 도중이 아니라 작업 사이에 모델을 바꾸세요.",
    ),
    "cache_changed_settings": (
        "The settings for thinking or tool choice changed; messages are cached separately for each combination.",
        "thinking 또는 tool_choice 설정이 바뀌었습니다. 메시지는 조합마다 따로 캐시됩니다.",
    ),
    "cache_expired": (
        "The pause before this request was longer than the cache lives. That is nobody's fault.",
        "이 요청 전의 휴지가 캐시 수명보다 길었습니다. 누구의 잘못도 아닙니다.",
    ),
    "cache_provider": (
        "The prompt continues the one before it within the cache's lifetime, and yet the provider read little of its cache.",
        "캐시 수명 안에 이어진 프롬프트인데도 제공자가 캐시를 거의 읽지 않았습니다.",
    ),
    "cache_provider_fix": (
        "The provider evicted it, or another of its machines answered. Nothing on your side caused that.",
        "제공자가 캐시를 비웠거나 다른 서버가 응답했습니다. 사용자 쪽 원인은 아닙니다.",
    ),
    # Everything else
    "details": ("Details", "상세"),
    "started": ("Started", "시작"),
    "session": ("Session", "세션"),
    "project": ("Project", "프로젝트"),
    "agent": ("Agent", "에이전트"),
    "parent_agent": ("Called by", "호출한 에이전트"),
    "class": ("Class", "요청 종류"),
    "model": ("Model", "모델"),
    "sent_as": ("sent as {model}", "{model}(으)로 전송"),
    "served": ("answered by {model}", "{model}이(가) 응답"),
    "kind": ("Endpoint", "엔드포인트"),
    "kind_stream": ("streamed", "스트리밍"),
    "client": ("Client", "클라이언트"),
    "user_agent": ("Program", "프로그램"),
    "upstream": ("Upstream", "업스트림"),
    "account": ("Account", "계정"),
    "request_id": ("Upstream's request id", "업스트림 요청 ID"),
    "status": ("Status", "상태 코드"),
    "stop_reason": ("Stopped because of", "종료 사유"),
    "bytes": ("Size", "크기"),
    "bytes_value": (
        "{received} received from the client, {sent} sent to it",
        "클라이언트에서 {received} 수신, 클라이언트로 {sent} 송신",
    ),
    "price": ("Price", "가격"),
    "web_searches": ("Web searches", "웹 검색"),
    "tier": ("Service tier", "서비스 등급"),
    "geo": ("Geography", "지역"),
    "mode": ("Speed", "속도"),
    "conversation": ("Conversation", "대화"),
    "read": ("Read the conversation", "대화 보기"),
    "as_json": ("As JSON", "JSON으로 보기"),
}
