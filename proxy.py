"""The application that ASGI servers load: `fastapi run proxy.py`, `uvicorn proxy:app`, `gunicorn proxy:app` and so on."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent / "src"))  # the package beside this file, if it is not installed

from claude_proxy.app import create_app

# The upstream, unless the environment (BASE_URL) or the settings file (docs/settings.md) names another.
BASE_URL = "https://api.z.ai/api/anthropic"

app = create_app(default_base_url=BASE_URL, beside=__file__)
