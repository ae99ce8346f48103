"""The portal's routes together, for the web app to include."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from ordernotify.web.portal import api, orders, requests, sign_in, upload

PORTAL_ROUTERS: Final[tuple[APIRouter, ...]] = (
    sign_in.router,
    orders.router,
    requests.router,
    upload.router,
    api.router,
)
