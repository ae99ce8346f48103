"""What the demo feeds the house: a cast of clients, and order lives in the sources' own formats."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import time
from collections.abc import Sequence
from datetime import timedelta
from itertools import zip_longest
from typing import Any

import httpx
from rich.progress import Progress

from ordernotify.cli._demo_result import Driven
from ordernotify.clock import now
from ordernotify.core.channels import Channel
from ordernotify.house import Addresses
from ordernotify.platforms import PLATFORMS
from ordernotify.platforms._base import Platform
from ordernotify.sandbox.senders import cloudevents_request
from ordernotify.sandbox.stories import WOOCOMMERCE_STATUSES, Sent, Source, client_ref, story
from ordernotify.sandbox.vendors import VENDORS

API_KEY = f"demo-{secrets.token_urlsafe(12)}"
HOUSE_SETTINGS = {
    "supplier_name": "Northgate Defense",
    "portal_url": "https://portal.northgate.example/",
    "support_contact": "orders@northgate.example",
}
# Fast enough to be done in under a minute, slow enough that each event comes alone.
_EVERY_S = 0.2
_REPEAT_EVERY = 10
_GOVERNMENT_ORDER = "GOV-7001"
EVERYWHERE = "everywhere"
FIRST_TOUR = 45002000
_TOURS = 5
_CONTRACT = "N00024-26-C-1234"
# Drawn anew for each demo; the shops' are those that their simulated vendors sign with.
SECRETS: dict[str, str] = {
    "shopify": VENDORS["shopify"].settings["client_secret"],
    "woocommerce": VENDORS["woocommerce"].settings["webhook_secret"],
    "cloudevents": f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode('ascii')}",
    "standard_webhooks": f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode('ascii')}",
}


_SOURCES: tuple[Source, ...] = ("shopify", "woocommerce", "cloudevents", "standard_webhooks")
_ORDERS_EACH = 10


def _contact(key: str, channel: str, platform: str, address: str, **more: Any) -> dict[str, Any]:
    return {
        "key": key, "channel": channel, "platform": platform, "address": address, "verified": True,
        "consent": "granted", **more,
    }  # fmt: skip


def _recipient(name: str, contacts: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"id": name.lower().replace(" ", "-"), "name": name, "contacts": list(contacts), **more}


def _client(number: int, name: str, recipients: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
    aliases = {source: client_ref(number - 201, source) for source in _SOURCES}
    return {
        "id": f"client-{number}",
        "name": name,
        "aliases": [{"source": source, "ref": ref} for source, ref in aliases.items()],
        "recipients": list(recipients),
        **more,
    }


def _slack(name: str) -> dict[str, Any]:
    secret = hashlib.sha256(name.encode()).hexdigest()[:24]
    return _contact("slack", "chat", "slack", f"https://hooks.slack.com/services/T000DEMO/B000{name}/{secret}")


def _teams(name: str) -> dict[str, Any]:
    workflow = hashlib.sha256(name.encode()).hexdigest()[:32]
    return _contact(
        "teams", "chat", "teams",
        "https://prod.01.environment.api.powerplatform.com/powerautomate/automations/direct/workflows/"
        f"{workflow}/triggers/manual/paths/invoke?api-version=1&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig={name}demo",
    )  # fmt: skip


def _everywhere() -> dict[str, Any]:
    """Return a client who wants every order event on every platform that can send."""
    contacts = [
        _contact(
            name.replace("_", "-"),
            platform.channel_for(platform.example).value,
            name,
            _place_at(platform),
        )
        for name, platform in PLATFORMS.items()
        if platform.sends and name in VENDORS
    ]
    return {"id": EVERYWHERE, "name": "Everywhere Systems", "recipients": [_recipient("Eve Ryan", contacts)]}


def _place_at(platform: Platform) -> str:
    """Return the order's own record where the platform keeps orders; a ticket has a number of its own.

    With one record for all orders they would stand in each other's way: SAP refuses two who write at a time.
    """
    keeps_orders = platform.channel_for(platform.example) is Channel.RECORD
    return "order" if keeps_orders and not platform.example.startswith("ticket:") else platform.example


class Cast:
    """The clients of the demo: who they are, what they chose, what their channels may carry."""

    CLIENTS: tuple[dict[str, Any], ...] = (
        _client(201, "Acme Air Systems", [
            _recipient("Ana Ruiz", [
                _contact("phone", "sms", "twilio", "+12025550123"),
                _contact("mail", "email", "sendgrid", "ana.ruiz@acme-air.example"),
            ], language="es"),
        ], time_zone="America/New_York"),
        _client(202, "Boreal Rotor", [
            _recipient("Bo Lind", [_contact("mail", "email", "sendgrid", "bo@boreal.example"), _slack("BOREAL")]),
        ]),
        _client(203, "Cobalt Naval", [
            _recipient("Cy Moss", [_contact("phone", "sms", "twilio", "+12025550145"), _teams("cobalt")]),
        ]),
        _client(204, "Delta Avionics", [
            _recipient("Di Park", [_contact("mail", "email", "sendgrid", "di@delta.example")]),
            _recipient("Receiving Dock", [_slack("DELTA"), _teams("delta")]),
        ]),
        {
            "id": "navsea-po",
            "name": "NAVSEA Program Office",
            "time_zone": "America/New_York",
            "recipients": [
                _recipient("Cmdr Lee", [
                    _contact("phone", "sms", "twilio", "+12025550177"),
                    _contact("mail", "email", "sendgrid", "lee@navsea.example"),
                ], us_person="verified", location_country="US", contracts=[_CONTRACT],
                   training_until="2099-01-01", agreement_until="2099-01-01"),
            ],
        },
        _everywhere(),
    )  # fmt: skip
    PARTS: tuple[dict[str, Any], ...] = (
        {"sku": "RAD-7", "name": "Radar module 7"},
        {"sku": "CBL-12", "name": "Cable set 12"},
        {"sku": "ANT-3", "name": "Antenna 3"},
        {"sku": "OPT-9", "name": "Optics 9"},
    )

    @staticmethod
    def environment() -> dict[str, str]:
        """Return the settings of the sources, which have no vendor to be told of."""
        return {
            "ORDERNOTIFY_CLOUDEVENTS_WEBHOOK_SECRET": SECRETS["cloudevents"],
            "ORDERNOTIFY_STANDARD_WEBHOOKS_WEBHOOK_SECRET": SECRETS["standard_webhooks"],
            "ORDERNOTIFY_WOOCOMMERCE_STATUS_MAP": WOOCOMMERCE_STATUSES,
        }


async def drive(addresses: Addresses, bar: Progress) -> Driven:
    """Onboard the cast and post every event, one by one, as its source would."""
    driven = Driven(government_order=_GOVERNMENT_ORDER)
    async with httpx.AsyncClient(base_url=addresses.web, trust_env=False, timeout=20) as client:
        await _onboard(client)
        await _point_receipts(addresses)
        posts = _posts()
        task = bar.add_task("events", total=len(posts))
        for number, post in enumerate(posts):
            began = asyncio.get_running_loop().time()
            await _post(client, post, driven)
            if number % _REPEAT_EVERY == _REPEAT_EVERY - 1:
                await _post(client, post, driven)
            bar.advance(task)
            await asyncio.sleep(max(0.0, began + _EVERY_S - asyncio.get_running_loop().time()))
        await _tour(client, driven)
        await _garbage(client, driven)
    return driven


def _posts() -> list[Sent]:
    """Return the demo's requests as they are sent: many order lives interleaved, a government order among them."""
    start, sent_at = now() - timedelta(days=7), now()
    lives = [
        list(story(number * 4 + turn, source=source, start=start, secret=SECRETS[source], sent_at=sent_at))
        for number in range(1, _ORDERS_EACH + 1)
        for turn, source in enumerate(_SOURCES)
    ]
    rounds = zip_longest(*lives)
    posts = [sent for one in rounds for sent in one if sent is not None]
    for step, status in enumerate(("received", "processing", "shipped", "delivered")):
        posts.insert((step + 1) * len(posts) // 5, _government(step, status))
    return posts


def _government(step: int, status: str) -> Sent:
    moment = now() - timedelta(minutes=40 - 10 * step)
    headers, body = cloudevents_request(
        [
            {
                "specversion": "1.0",
                "id": f"gov-{step}",
                "source": "//erp.northgate.example/orders",
                "type": f"order.{status}",
                "subject": _GOVERNMENT_ORDER,
                "time": moment.isoformat(),
                "datacontenttype": "application/json",
                "data": {
                    "order_id": _GOVERNMENT_ORDER,
                    "client": "navsea-po",
                    "contract": _CONTRACT,
                    "status": status,
                    "occurred_at": moment.isoformat(),
                    "carrier": "UPS",
                    "tracking_no": "1Z999AA10123456784",
                    "promised_date": now().date().isoformat(),
                    "lines": [{"sku": "RAD-7", "quantity": 12}],
                },
            }
        ],
        mode="structured",
        secret=SECRETS["cloudevents"],
        message_id=f"gov-{step}",
        sent_at=now(),
    )
    return Sent(headers, body, "/webhooks/cloudevents")


async def _onboard(client: httpx.AsyncClient) -> None:
    headers = {"x-api-key": API_KEY}
    answers = [
        await client.put("/api/v1/parts", json=list(Cast.PARTS), headers=headers),
        await client.put(f"/api/v1/contracts/{_CONTRACT}", json={"label": "fci"}, headers=headers),
        # A commercial tenant may carry company business; the program office's mail is assessed for FCI.
        *[
            await client.put(f"/api/v1/channels/{name}", json={"level": level}, headers=headers)
            for name, level in (("sendgrid", "C2"), ("slack", "C1"), ("teams", "C1"))
        ],
        *[await client.put(f"/api/v1/clients/{entry['id']}", json=entry, headers=headers) for entry in Cast.CLIENTS],
    ]
    for answer in answers:
        if answer.status_code != httpx.codes.NO_CONTENT:
            raise RuntimeError(f"onboarding was refused: {answer.text}")


async def _point_receipts(addresses: Addresses) -> None:
    """Tell the simulated vendors where their receipts go, as `connect` tells real ones."""
    async with httpx.AsyncClient(base_url=addresses.sandbox, trust_env=False) as sandbox:
        for vendor in (await sandbox.get("/_control/counts")).json():
            await sandbox.put(f"/_control/{vendor}/webhooks", json={"events": f"{addresses.web}/webhooks/{vendor}"})


async def _post(client: httpx.AsyncClient, post: Sent, driven: Driven) -> None:
    began = time.time() * 1000
    answer = await client.post(post.path, headers=post.headers, content=post.body)
    if answer.status_code == httpx.codes.ACCEPTED:
        taken = answer.json()["accepted"]
        driven.accepted += len(taken)
        driven.duplicate += answer.json()["duplicates"]
        driven.posted |= dict.fromkeys(taken, began)
    elif answer.status_code == httpx.codes.OK and answer.content:
        driven.duplicate += answer.json().get("duplicates", 0)
    elif not answer.is_success:
        driven.rejected += 1


async def _tour(client: httpx.AsyncClient, driven: Driven) -> None:
    """Post a few events of the client who wants each of them on every platform, one by one."""
    for number in range(_TOURS):
        event = {
            "id": f"tour-{number}",
            "order_id": str(FIRST_TOUR + number),
            "client": EVERYWHERE,
            "status": "shipped",
            "label": "PUBLIC",
            # Nobody can be asked about its parcels, so that the portal alone knows what becomes of these orders.
            "carrier": "Calder Haulage",
        }
        began = time.time() * 1000
        answer = await client.post("/api/v1/events", json=event, headers={"x-api-key": API_KEY})
        driven.accepted += len(answer.json()["accepted"])
        driven.tours |= dict.fromkeys(answer.json()["accepted"], began)
        await asyncio.sleep(1.0)


async def _garbage(client: httpx.AsyncClient, driven: Driven) -> None:
    """Post what must be refused at the door: each answer says which field is wrong."""
    headers = {"x-api-key": API_KEY}
    for content in (b'{"id": "g1", "order_id": ', b'{"id": "g2", "order_id": "X", "status": NaN}'):
        answer = await client.post("/api/v1/events", headers=headers, content=content)
        driven.rejected += answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY
    answer = await client.post("/webhooks/shopify", content=b"{}", headers={"x-shopify-hmac-sha256": "forged"})
    driven.rejected += answer.status_code == httpx.codes.UNAUTHORIZED
