"""What the demo does as a person in the portal: an update, a table of updates, and a correction, over HTTP."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from ordernotify.cli._demo_input import FIRST_TOUR
from ordernotify.clock import now
from ordernotify.core.audit import Actor
from ordernotify.core.people import Person, Role
from ordernotify.house import HouseError
from ordernotify.store import people
from ordernotify.store.audit import Scribe
from ordernotify.store.database import connect

PERSON = "demo_staff"
_WAIT_S = 30.0
_TOKEN = re.compile(r'name="csrf" value="([^"]+)"')
_ERROR = re.compile(r'<p class="error"[^>]*>([^<]+)</p>')
_ORDER = re.compile(r'data-label="Order"><a href="(/portal/orders/[0-9a-f-]+)">')
# These orders reach every platform, so that each shows an update and what it does with a correction.
_ORDER_NO = str(FIRST_TOUR)
_TABLE = "order_no,status\n" + "".join(
    f"{FIRST_TOUR + place},{status}\n"
    # The last one is an order that nobody knows.
    for place, status in ((1, "delivered"), (2, "delivered"), (3, "out_for_delivery"), (999, "delivered"))
)


@dataclass(frozen=True, slots=True)
class Account:
    """Who the demo signed in as, for whoever keeps it running and wants to look."""

    person: str
    password: str


async def work_in_portal(app_url: str, web: str) -> Account:
    """Make an account, sign in, and post an update, a table with a bad row, and a correction.

    Raises HouseError when the portal refuses one of them, TimeoutError when one is not done in time.
    """
    password = secrets.token_urlsafe(18)
    pool = await connect(app_url, size=1)
    try:
        made = await people.add_person(
            pool,
            Scribe("cli"),
            person_id=PERSON,
            name="Dana Whitfield",
            roles=[Role.STAFF],
            password=password,
            actor=Actor(kind="service", id="svc:demo"),
            at=now(),
        )
    finally:
        await pool.close()
    if not isinstance(made, Person):
        raise HouseError(f"the demo's account was refused: {made.field} {made.message}")
    async with httpx.AsyncClient(base_url=web, trust_env=False, timeout=20) as browser:
        await _submit(browser, "/portal/sign-in", {"person": PERSON, "password": password})
        order = _ORDER.search((await browser.get("/portal/", params={"q": _ORDER_NO})).text)
        if order is None:
            raise HouseError(f"the portal does not find order {_ORDER_NO}")
        path = f"{order[1]}/update"
        why = {"reason": "carrier_told", "note": ""}
        await _post(browser, await _submit(browser, path, {"status": "delivered", **why}))
        table = {"table": ("updates.csv", _TABLE.encode(), "text/csv")}
        await _post(browser, await _submit(browser, "/portal/upload", why, files=table))
        wrong = {"status": "out_for_delivery", "correction": "yes", "reason": "entered_wrong", "note": ""}
        await _post(browser, await _submit(browser, path, wrong))
    return Account(PERSON, password)


async def _submit(browser: httpx.AsyncClient, path: str, fields: Mapping[str, str], **more: Any) -> str:
    """Open a form, send it back filled in, and return where that led."""
    return await _sent(browser, path, path, fields, **more)


async def _sent(browser: httpx.AsyncClient, page: str, path: str, fields: Mapping[str, str], **more: Any) -> str:
    token = _TOKEN.search((await browser.get(page)).text)
    answer = await browser.post(path, data={"csrf": token[1] if token else "", **fields}, **more)
    if answer.status_code != httpx.codes.SEE_OTHER:
        why = " ".join(_ERROR.findall(answer.text)) or "it gives no reason"
        form = path.rpartition("/")[2]
        raise HouseError(f"the portal refused the form at {form} with HTTP {answer.status_code}: {why}")
    return str(answer.headers["location"])


async def _post(browser: httpx.AsyncClient, draft: str) -> None:
    """Post a draft and look at it until its outcomes are there."""
    await _sent(browser, draft, f"{draft}/post", {})
    async with asyncio.timeout(_WAIT_S):
        while "on their way" in (await browser.get(draft)).text:  # noqa: ASYNC110 - a page is asked
            await asyncio.sleep(0.3)
