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
    """The process is alive."""

    status: Literal["ok"] = "ok"
    version: str


class Readiness(BaseModel):
    """Whether new requests are accepted.

    `reason` is a sentence, empty while ready.
    """

    status: Literal["ready", "draining"]
    reason: str = ""


def _answer(body: BaseModel, status: int = 200) -> JSONResponse:
    return JSONResponse(body.model_dump(), status, headers={"cache-control": "no-store"})


def probes(facts: Callable[[], PageFacts], ready: Callable[[], tuple[bool, str]]) -> APIRouter:
    """Return the two probe routes.

    Args:
        ready: returns whether new requests are accepted, and if not, why.
    """
    router = APIRouter(tags=[TAG])

    async def health() -> JSONResponse:
        """Liveness: 200 as long as the process answers, even while it drains. Restart it when this fails."""
        return _answer(Health(version=facts().version))

    async def readiness() -> JSONResponse:
        """Readiness: 503 as soon as the proxy is stopping, while open streams finish. Send no new requests then."""
        welcome, reason = ready()
        return _answer(Readiness(status="ready" if welcome else "draining", reason=reason), 200 if welcome else 503)

    busy: dict[int | str, dict[str, Any]] = {503: {"model": Readiness, "description": "Draining: no new requests"}}
    router.add_api_route("/health", health, response_model=Health, summary="Is it alive?")
    router.add_api_route("/ready", readiness, response_model=Readiness, responses=busy, summary="Is it ready?")
    router.add_api_route("/health", health, methods=["HEAD"], include_in_schema=False)
    router.add_api_route("/ready", readiness, methods=["HEAD"], include_in_schema=False)
    return router
