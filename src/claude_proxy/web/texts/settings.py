"""Settings: what is in force and why?"""

TEXTS = {
    "lead": ("What is in force, and where each value comes from.", "적용 중인 값과 각 값의 출처입니다."),
    "name": ("Setting", "설정"),
    "value": ("Value", "값"),
    "source": ("From", "출처"),
    "default": ("default", "기본값"),
    "hidden": ("set, not shown", "설정됨, 표시하지 않음"),
    "connect": ("Connect a client", "클라이언트 연결"),
}
