"""The demo's parcels: a run that asks carriers, and calls in which carriers tell of parcels by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import asyncpg
import httpx

from ordernotify.cli._demo_prefect import run_deployment
from ordernotify.cli._demo_result import Driven
from ordernotify.clock import now
from ordernotify.house import House
from ordernotify.sandbox import aggregator_payloads as services
from ordernotify.sandbox import carrier_payloads as carriers
from ordernotify.sandbox.carrier_senders import (
    Signed,
    aftership_request,
    easypost_request,
    fedex_request,
    seventeentrack_request,
    shippo_request,
    ups_request,
)
from ordernotify.sandbox.carrier_stories import Happened, Step
from ordernotify.sandbox.carriers import CARRIER_VENDORS
from ordernotify.store.setup import plain

_CLIENT: Final = "client-202"
_WAIT_S = 30.0
# Asked about by a run of the deployment, which a person could start in Prefect's UI.
_ASKED: Final[Mapping[str, str]] = {
    "UPS": "1Z999AA10100000010",
    "FedEx": "700000000010",
    "USPS": "9400111899223100000010",
    "DHL": "JD014600003880000010",
}
# Told of by signed calls, in each service's own format.
_TOLD: Final[Mapping[str, tuple[str, str]]] = {
    "ups": ("UPS", "1Z999AA10100000020"),
    "fedex": ("FedEx", "700000000020"),
    "easypost": ("EasyPost", "EZ1000000020"),
    "shippo": ("Shippo", "SHIPPO10000020"),
    "aftership": ("AfterShip", "AS1000000020"),
    "seventeentrack": ("17TRACK", "RR100000020CN"),
}
_STORY: Final = (Step.LABEL, Step.PICKED_UP, Step.OUT, Step.DELIVERED)


async def drive_tracking(house: House, api_key: str, driven: Driven) -> None:
    """Tell of parcels, let a run ask about some of them, and let carriers push the stories of the others."""
    async with httpx.AsyncClient(base_url=house.addresses.web, trust_env=False, timeout=20) as client:
        numbers = [*_ASKED.items(), *_TOLD.values()]
        for place, (carrier, number) in enumerate(numbers):
            await _order(client, f"TRK-{8001 + place}", carrier, number, api_key, driven)
        asked = await _shipments(house, [number for _, number in numbers], wanted=list(_ASKED.values()))
        await run_deployment(
            house.addresses, house.settings.state_dir, "tracking-poll/tracking-poll", shipment_ids=asked
        )
        for place in range(1, len(_STORY)):
            for carrier, (_, number) in _TOLD.items():
                await _push(client, carrier, _signed(carrier, number, _so_far(place + 1)), driven)
        # The last one again, as carriers do when an answer was lost, and one that somebody forged.
        last, (_, number) = list(_TOLD.items())[-1]
        headers, body = _signed(last, number, _so_far(len(_STORY)))
        await _push(client, last, (headers, body), driven)
        await _push(client, last, ({**headers, "sign": "0" * 64}, body), driven)


async def _order(
    client: httpx.AsyncClient, order: str, carrier: str, number: str, api_key: str, driven: Driven
) -> None:
    event = {
        "id": f"{order}-processing",
        "order_id": order,
        "client": _CLIENT,
        "status": "processing",
        "label": "PUBLIC",
        "carrier": carrier,
        "tracking_no": number,
        "occurred_at": (now() - timedelta(days=1)).isoformat(),
    }
    answer = await client.post("/api/v1/events", json=event, headers={"x-api-key": api_key})
    driven.accepted += len(answer.json()["accepted"])


async def _shipments(house: House, numbers: Sequence[str], *, wanted: Sequence[str]) -> list[str]:
    """Wait until all these parcels are followed, and return the ids of the wanted ones' shipments."""
    connection = await asyncpg.connect(plain(house.urls.reader))
    try:
        async with asyncio.timeout(_WAIT_S):
            while True:
                rows = await connection.fetch(
                    "SELECT id, tracking_no FROM shipment WHERE tracking_no = ANY($1)", list(numbers)
                )
                if len(rows) == len(numbers):
                    return [str(row["id"]) for row in rows if row["tracking_no"] in wanted]
                await asyncio.sleep(0.1)
    finally:
        await connection.close()


async def _push(client: httpx.AsyncClient, carrier: str, signed: Signed, driven: Driven) -> None:
    headers, body = signed
    answer = await client.post(f"/webhooks/{carrier}", headers=headers, content=body)
    if answer.is_success:
        driven.accepted += len(answer.json()["accepted"])
        driven.duplicate += answer.json()["duplicates"] > 0
    else:
        driven.rejected += 1


def _so_far(steps: int) -> list[Happened]:
    """Return the first steps of a parcel that is on its way since an hour ago, twelve minutes apart."""
    return [Happened(step, _BEGAN + timedelta(minutes=12 * place)) for place, step in enumerate(_STORY[:steps])]


_BEGAN: Final[datetime] = (now() - timedelta(hours=1)).replace(microsecond=0)


def _signed(carrier: str, number: str, steps: Sequence[Happened]) -> Signed:
    return _SENDERS[carrier](number, steps, CARRIER_VENDORS[carrier].settings)


_Sender = Callable[[str, Sequence[Happened], Mapping[str, str]], Signed]
_SENDERS: Final[Mapping[str, _Sender]] = {
    "ups": lambda number, steps, its: ups_request(carriers.ups_alert(number, steps), credential=its["push_credential"]),
    "fedex": lambda number, steps, its: fedex_request(
        carriers.fedex_answer([carriers.fedex_result(number, steps)]), token=its["push_token"]
    ),
    "easypost": lambda number, steps, its: easypost_request(
        services.easypost_event(number, steps), secret=its["webhook_secret"]
    ),
    "shippo": lambda number, steps, its: shippo_request(
        services.shippo_event(number, steps), secret=its["hmac_secret"], sent_at=now()
    ),
    "aftership": lambda number, steps, its: aftership_request(
        services.aftership_event(number, steps), secret=its["webhook_secret"]
    ),
    "seventeentrack": lambda number, steps, its: seventeentrack_request(
        services.seventeentrack_event(number, steps), api_key=its["api_key"]
    ),
}
