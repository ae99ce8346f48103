"""The web app: webhooks, the JSON API, health; one process, one event loop."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from pydantic.json_schema import models_json_schema
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from swagger_ui_bundle import swagger_ui_path

from ordernotify import __version__
from ordernotify.core.onboarding import ChannelBody, ClientBody, ContractBody, PartBody
from ordernotify.settings import Settings, settings
from ordernotify.store.database import DATABASE_AWAY
from ordernotify.web import api, webhooks
from ordernotify.web.doorway import Doorway, open_doorway
from ordernotify.web.portal.api import PortalRequestIn
from ordernotify.web.portal.routers import PORTAL_ROUTERS

log = structlog.get_logger(__name__)


def create_app(house: Settings | None = None) -> FastAPI:
    """Return the web app; its resources open when the server starts it."""
    chosen = house or settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_doorway(chosen, blocks=bool(os.environ.get("PREFECT_API_URL"))) as doorway:
            app.state.doorway = doorway
            yield

    app = FastAPI(title="ordernotify", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.include_router(webhooks.router)
    app.include_router(api.router)
    for pages in PORTAL_ROUTERS:
        app.include_router(pages)
    app.add_exception_handler(api.RefusedError, api.answer_refusal)
    app.add_middleware(Surprises)
    # The documentation's scripts and styles are ours to serve: this machine may reach no other.
    app.mount("/docs/assets", StaticFiles(directory=swagger_ui_path))
    app.add_api_route("/docs", docs, include_in_schema=False)
    app.add_api_route("/healthz", healthz, include_in_schema=False)
    app.add_api_route("/readyz", readyz, include_in_schema=False)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


async def docs() -> Response:
    """Show the API's description, to read and to try."""
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="ordernotify API",
        swagger_js_url="/docs/assets/swagger-ui-bundle.js",
        swagger_css_url="/docs/assets/swagger-ui.css",
        swagger_favicon_url="/docs/assets/favicon-32x32.png",
    )


async def healthz() -> Response:
    """Say that the process is alive."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Say whether requests can be taken: the database answers."""
    doorway: Doorway = request.app.state.doorway
    try:
        await doorway.pool.fetchval("SELECT 1", timeout=2)
    except (*DATABASE_AWAY, asyncpg.PostgresError):
        return JSONResponse({"status": "database away"}, status_code=503, headers={"retry-after": "2"})
    return JSONResponse({"status": "ready"})


class Surprises:
    """Answer a fault of ours without a word of it; the log says where it happened, not what was in it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and catch what nobody expected."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = False

        async def tell(message: Message) -> None:
            nonlocal began
            began = began or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, tell)
        except Exception as error:
            log.exception("request_failed", kind=type(error).__name__)
            if not began:
                await _FAULT(scope, receive, send)


_FAULT = JSONResponse(
    {"error": {"field": "", "message": "a fault of ours: nothing was stored, please repeat"}},
    status_code=503,
    headers={"retry-after": "5"},
)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Return the API's description with the bodies that are read by hand, so that errors name fields."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        models = (api.EventIn, PortalRequestIn, ClientBody, PartBody, ContractBody, ChannelBody)
        bodies = [(model, "validation") for model in models]
        _, extra = models_json_schema(bodies, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
        schema.setdefault("components", {}).setdefault("schemas", {}).update(extra.get("$defs", {}))
        schema["components"]["securitySchemes"] = {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}}
        schema["security"] = [{"key": []}]
        app.openapi_schema = schema
    return app.openapi_schema
