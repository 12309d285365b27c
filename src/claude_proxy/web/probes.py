"""`/health` and `/ready`, for Docker, Kubernetes and load balancers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_proxy.web.facts import PageFacts

TAG = "This proxy"


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"
    version: str


class Readiness(BaseModel):
    """Whether new requests are welcome.

    `reason` is a sentence, empty while ready.
    """

    status: Literal["ready", "draining"]
    reason: str = ""


def _answer(body: BaseModel, status: int = 200) -> JSONResponse:
    return JSONResponse(body.model_dump(), status, headers={"cache-control": "no-store"})


def probes(facts: Callable[[], PageFacts], ready: Callable[[], tuple[bool, str]]) -> APIRouter:
    """The two probe routes.

    Args:
        ready: whether new requests are welcome, and why not.
    """
    router = APIRouter(tags=[TAG])

    async def health() -> JSONResponse:
        """Alive: 200 as long as the process answers, also while it drains. Restart it when this fails."""
        return _answer(Health(version=facts().version))

    async def readiness() -> JSONResponse:
        """Ready: 503 from the moment the proxy is told to stop, while open streams finish. Send no new work then."""
        welcome, reason = ready()
        return _answer(Readiness(status="ready" if welcome else "draining", reason=reason), 200 if welcome else 503)

    busy: dict[int | str, dict[str, Any]] = {503: {"model": Readiness, "description": "Draining: no new requests"}}
    router.add_api_route("/health", health, response_model=Health, summary="Is it alive?")
    router.add_api_route("/ready", readiness, response_model=Readiness, responses=busy, summary="Is it ready?")
    router.add_api_route("/health", health, methods=["HEAD"], include_in_schema=False)
    router.add_api_route("/ready", readiness, methods=["HEAD"], include_in_schema=False)
    return router
