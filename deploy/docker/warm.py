"""Imports, while the image is built, what a start of the proxy imports, so that its bytecode is in the image.

Our own code is not here yet (its layer comes later), so the packages are listed by name. A missing name only costs
start-up time; .ci/docker/image-check.sh counts what a start still has to compile.
"""

import importlib
import sys

PACKAGES = (
    "aiohappyeyeballs",
    "asyncio",
    "backports.zstd",
    "brotli",
    "email.parser",
    "fastapi",
    "fastapi.openapi.docs",
    "fastapi.staticfiles",
    "gunicorn.app.wsgiapp",
    "httptools",
    "hypercorn.run",
    "importlib.metadata",
    "msgspec",
    "platformdirs",
    "prometheus_client.core",
    "prometheus_client.exposition",
    "prometheus_client.openmetrics.exposition",
    "pydantic",
    "pydantic.root_model",
    "pydantic.v1",
    "rich.console",
    "rich.markup",
    "rich.table",
    "sqlite3",
    "starlette.staticfiles",
    "structlog",
    "tomllib",
    "typer",
    "urllib.request",
    "uvicorn",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvicorn.main",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.supervisors",
    "uvloop",
    "yaml",
)

for name in (*PACKAGES, *sys.argv[1:]):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        sys.stdout.write(f"not in this image: {error.name}\n")
