"""`/metrics` for Prometheus: the text format, OpenMetrics where it is asked for, gzip where it is understood."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from fastapi import APIRouter, Depends

# FastAPI reads these from annotations, at runtime
from starlette.requests import Request
from starlette.responses import Response

from claude_proxy.observe.exposition import OPENMETRICS, TEXT
from claude_proxy.web.negotiation import takes
from claude_proxy.web.probes import TAG

if TYPE_CHECKING:
    from claude_proxy.web.admin import Check


class Text(Protocol):
    """Renders the metrics, in OpenMetrics or Prometheus' text format, compressed or not."""

    async def __call__(self, *, openmetrics: bool, gzipped: bool) -> bytes: ...


def metrics(text: Text, admin: Check) -> APIRouter:
    """The route of `/metrics`.

    Args:
        text: renders the answer.
        admin: refuses who may not read it.
    """
    router = APIRouter(tags=[TAG], dependencies=[Depends(admin)])

    async def read(request: Request) -> Response:
        """Counters, gauges and histograms, described in docs/metrics.md. With ADMIN_TOKEN as bearer (docs/access.md)."""
        openmetrics = takes(request.headers.get("accept", ""), "application/openmetrics-text")
        gzipped = takes(request.headers.get("accept-encoding", ""), "gzip")
        body = await text(openmetrics=openmetrics, gzipped=gzipped)
        headers = {
            "content-type": OPENMETRICS if openmetrics else TEXT,
            "cache-control": "no-store",
            "vary": "accept, accept-encoding",
        }
        if gzipped:
            headers["content-encoding"] = "gzip"
        return Response(body, headers=headers)

    answers: dict[int | str, dict[str, Any]] = {
        200: {"content": {"text/plain": {}, "application/openmetrics-text": {}}},
        401: {"description": "Without ADMIN_TOKEN, from another machine or where it is set"},
    }
    router.add_api_route("/metrics", read, response_class=Response, responses=answers, summary="For Prometheus")
    router.add_api_route("/metrics", read, methods=["HEAD"], include_in_schema=False)
    return router
