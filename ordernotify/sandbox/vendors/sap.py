"""SAP S/4HANA simulated: tokens, CSRF sessions, sales orders with versions, texts, deliveries, and their events.

The system is as if it had every sales order, but for those ending in 404; one ending in 423 is locked by a clerk.
Delivery 80000000 + n is the one of order n. Whoever changes an order makes Event Mesh tell it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import wraps
from typing import Any, Final

import orjson

from ordernotify import clock
from ordernotify.sandbox._base import Callback, Fault, Reply, Request, Shelf, Taken, Vendor, json_reply

CLIENT: Final = "sandbox-sap-client"
_SECRET = "sandbox-sap-secret"  # noqa: S105 - opens nothing but this simulation
_ACCESS = "sandbox-sap-access-token"
_WEBHOOK_TOKEN = "sandbox-sap-webhook-token"  # noqa: S105 - likewise
_LOGIN = f"Basic {base64.b64encode(f'{CLIENT}:{_SECRET}'.encode()).decode()}"

_ORDERS = "/sap/opu/odata/sap/API_SALES_ORDER_SRV"
_DELIVERIES = "/sap/opu/odata/sap/API_OUTBOUND_DELIVERY_SRV;v=0002"
_FIELDS = frozenset({"YY1_NoticeReference_SDH", "YY1_NoticeStatus_SDH"})
_WRITABLE = _FIELDS | {"DeliveryBlockReason", "PurchaseOrderByCustomer", "RequestedDeliveryDate"}
_FIRST_DELIVERY = 80_000_000
_KEY = re.compile(r"\('0*(\d{1,10})'\)")
_TEXT_KEY = re.compile(r"A_SalesOrderText\(SalesOrder='(\d{1,10})',Language='([A-Z]{2})',LongTextID='(\w{1,4})'\)")

_Endpoint = Callable[[Request, Shelf], Reply]


def _error(status: int, code: str, message: str, **headers: str) -> Reply:
    body = {"error": {"code": code, "message": {"lang": "en", "value": message}, "innererror": {}}}
    return json_reply(status, body, headers={name.replace("_", "-"): value for name, value in headers.items()})


def _not_found() -> Reply:
    return _error(404, "/IWBEP/CM_MGW_RT/020", "Resource not found")


def _unauthorized() -> Reply:
    return Reply(401, b"<html>Logon failed</html>", {"content-type": "text/html"})


def _guarded(endpoint: _Endpoint) -> _Endpoint:
    @wraps(endpoint)
    def check(request: Request, shelf: Shelf) -> Reply:
        known = request.headers.get("authorization") == f"Bearer {_ACCESS}"
        return endpoint(request, shelf) if known else _unauthorized()

    return check


def _in_session(endpoint: _Endpoint) -> _Endpoint:
    """Let a write pass only with the token of its session and the session's cookie."""

    @wraps(endpoint)
    def check(request: Request, shelf: Shelf) -> Reply:
        token = request.headers.get("x-csrf-token", "")
        session = shelf.kind("sessions").get(token)
        if session is None or session not in request.headers.get("cookie", ""):
            headers = {"x-csrf-token": "Required", "content-type": "text/plain"}
            return Reply(403, b"CSRF token validation failed", headers)
        return endpoint(request, shelf)

    return _guarded(check)


def _token(request: Request, _: Shelf) -> Reply:
    if request.headers.get("authorization") != _LOGIN:
        return json_reply(401, {"error": "invalid_client", "error_description": "Bad credentials"})
    if request.form().get("grant_type") != "client_credentials":
        return json_reply(400, {"error": "unsupported_grant_type"})
    return json_reply(200, {"access_token": _ACCESS, "token_type": "bearer", "expires_in": 3600})


# ---- orders ----


def _date(moment: datetime) -> str:
    return f"/Date({int(moment.timestamp() * 1000)}+0000)/"


def _order_of(shelf: Shelf, number: str) -> dict[str, Any] | None:
    made: dict[str, Any] | None = shelf.kind("orders").get(number)
    if made is not None or number.endswith("404"):
        return made
    schedule = {
        "ScheduleLineOrderQuantity": "2",
        "ConfdOrderQtyByMatlAvailCheck": "2",
        "RequestedDeliveryDate": "/Date(1796083200000)/",
        "ConfirmedDeliveryDate": "/Date(1796083200000)/",
    }
    item = {"Material": "RAD-7", "RequestedQuantity": "2", "to_ScheduleLine": {"results": [schedule]}}
    return {
        "SalesOrder": number,
        "SoldToParty": "10100001",
        "SalesOrganization": "1010",
        "PurchaseOrderByCustomer": f"PO-{number}",
        "OverallSDProcessStatus": "B",
        "OverallSDDocumentRejectionSts": "A",
        "OverallTotalDeliveryStatus": "A",
        "DeliveryBlockReason": "",
        "LastChangeDateTime": "/Date(1795510800000+0000)/",
        "version": 1,
        **dict.fromkeys(_FIELDS, ""),
        "to_Text": {"results": []},
        "to_Item": {"results": [item]},
    }


def _number(request: Request) -> str:
    found = _KEY.search(request.path)
    return found.group(1) if found else "0"


def _etag(order: Mapping[str, Any]) -> str:
    return f"W/\"datetimeoffset'{order['LastChangeDateTime']}-{order['version']}'\""


def _get(request: Request, shelf: Shelf) -> Reply:
    order = _order_of(shelf, _number(request))
    if order is None:
        return _not_found()
    wanted = [one for one in request.query.get("$select", "").split(",") if one]
    unknown = [one for one in wanted if one not in order]
    if unknown:
        return _error(400, "005056A509B11EE1B9A8FEC11C21578E", f"Property {unknown[0]} is invalid")
    shown = {name: order[name] for name in wanted} if wanted else {k: v for k, v in order.items() if k != "version"}
    headers = {}
    if request.headers.get("x-csrf-token", "").lower() == "fetch":
        serial = shelf.next_serial()
        session = f"SAP_SESSIONID_S4H_100=session-{serial}"
        shelf.kind("sessions")[f"csrf-{serial}"] = session
        cookies = f"sap-usercontext=sap-client=100; path=/, {session}; path=/; expires=Wed, 25 Nov 2026 10:00:00 GMT"
        headers = {"x-csrf-token": f"csrf-{serial}", "set-cookie": cookies}
    return json_reply(200, {"d": {"__metadata": {"etag": _etag(order)}, **shown}}, headers=headers)


def _list(request: Request, shelf: Shelf) -> Reply:
    wanted = [one for one in request.query.get("$select", "").split(",") if one]
    order = _order_of(shelf, "4800") or {}
    unknown = [one for one in wanted if one not in order]
    if unknown:
        return _error(400, "005056A509B11EE1B9A8FEC11C21578E", f"Property {unknown[0]} is invalid")
    return json_reply(200, {"d": {"results": [{name: order[name] for name in wanted}]}})


def _changed(shelf: Shelf, order: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    changed = {**order, **fields, "version": order["version"] + 1, "LastChangeDateTime": _date(clock.now())}
    shelf.kind("orders")[str(order["SalesOrder"])] = changed
    return changed


def _patch(request: Request, shelf: Shelf) -> Reply:
    order = _order_of(shelf, _number(request))
    if order is None:
        return _not_found()
    refused = _forbidden(request, order)
    if refused is not None:
        return refused
    changed = _changed(shelf, order, **request.json())
    return Reply(204, taken=_put_out(order, changed), callbacks=_told(shelf, changed))


def _forbidden(request: Request, order: Mapping[str, Any]) -> Reply | None:
    given, asked = request.json(), request.headers.get("if-match")
    if order["SalesOrder"].endswith("423"):
        return _error(400, "MC/601", "Object requested is currently locked by user CLERK1")
    if asked is None:
        return _error(428, "/IWFND/CM_MGW/520", "Precondition required")
    if asked not in {"*", _etag(order)}:
        return _error(412, "/IWFND/CM_MGW/515", "Precondition failed")
    if not isinstance(given, dict) or not given:
        return _error(400, "/IWBEP/CM_MGW_RT/021", "Malformed request body")
    unknown = sorted(given.keys() - _WRITABLE)
    if unknown:
        return _error(400, "005056A509B11EE1B9A8FEC11C21578E", f"Property {unknown[0]} is invalid")
    return None


def _put_out(before: Mapping[str, Any], order: Mapping[str, Any]) -> tuple[Taken, ...]:
    """Return what output management sends: only when our reference is another one than before."""
    reference = str(order["YY1_NoticeReference_SDH"])
    if not reference or reference == before["YY1_NoticeReference_SDH"]:
        return ()
    text = next((one["LongText"] for one in order["to_Text"]["results"] if one["LongTextID"] == "TX05"), "")
    return (Taken(str(order["SalesOrder"]), reference, text, str(order["SalesOrder"])),)


def _told(shelf: Shelf, order: Mapping[str, Any]) -> tuple[Callback, ...]:
    url = shelf.webhooks.get("events")
    if not url:
        return ()
    event = {
        "type": "sap.s4.beh.salesorder.v1.SalesOrder.Changed.v1",
        "specversion": "1.0",
        "source": "/default/sap.s4.beh/S4HCLNT100",
        "id": f"sandbox-{shelf.next_serial()}",
        "time": clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        "datacontenttype": "application/json",
        "data": {"SalesOrder": order["SalesOrder"], "SoldToParty": order["SoldToParty"]},
    }
    headers = {
        "content-type": "application/cloudevents+json",
        "authorization": f"Bearer {_WEBHOOK_TOKEN}",
        "x-address": "topic:sap/s4/beh/salesorder/v1/SalesOrder/Changed/v1",
    }
    return (Callback(url, headers, orjson.dumps(event)),)


def _add_text(request: Request, shelf: Shelf) -> Reply:
    order, given = _order_of(shelf, _number(request)), request.json()
    if order is None:
        return _not_found()
    if not isinstance(given, dict) or given.keys() != {"Language", "LongTextID", "LongText"}:
        return _error(400, "/IWBEP/CM_MGW_RT/021", "Malformed request body")
    texts = order["to_Text"]["results"]
    if any((one["Language"], one["LongTextID"]) == (given["Language"], given["LongTextID"]) for one in texts):
        return _error(400, "SLS_LORD/017", "The text exists already")
    _changed(shelf, order, to_Text={"results": [*texts, dict(given)]})
    return json_reply(201, {"d": {"SalesOrder": order["SalesOrder"], **given}})


def _change_text(request: Request, shelf: Shelf) -> Reply:
    found, given = _TEXT_KEY.search(request.path), request.json()
    order = _order_of(shelf, found.group(1)) if found else None
    if found is None or order is None:
        return _not_found()
    texts = [dict(one) for one in order["to_Text"]["results"]]
    mine = [one for one in texts if (one["Language"], one["LongTextID"]) == found.group(2, 3)]
    if not mine:
        return _not_found()
    mine[0]["LongText"] = str(given.get("LongText", "")) if isinstance(given, dict) else ""
    _changed(shelf, order, to_Text={"results": texts})
    return Reply(204)


def _delivery(request: Request, shelf: Shelf) -> Reply:
    number = int(_number(request)) - _FIRST_DELIVERY
    if number <= 0 or _order_of(shelf, str(number)) is None:
        return _not_found()
    item = {"Material": "RAD-7", "ActualDeliveryQuantity": "2.000", "ReferenceSDDocument": str(number)}
    delivery = {
        "DeliveryDocument": str(_FIRST_DELIVERY + number),
        "SoldToParty": "10100001",
        "OverallGoodsMovementStatus": "C",
        "OverallProofOfDeliveryStatus": "",
        "BillOfLading": "1Z999AA10123456784",
        "to_DeliveryDocumentItem": {"results": [item]},
    }
    return json_reply(200, {"d": delivery})


def _refuse(fault: Fault) -> Reply:
    refusals = {
        Fault.RATE: Reply(429, b"Too Many Requests", {"content-type": "text/plain", "retry-after": "1"}),
        Fault.RATE_BARE: Reply(429, b"Too Many Requests", {"content-type": "text/plain"}),
        Fault.SERVER_ERROR: _error(500, "/IWFND/CM_CONSUMER/101", "Internal error"),
        Fault.AUTH: _unauthorized(),
    }
    # An order knows no opt-out: what SAP will not take, it will not take for anybody.
    return refusals.get(fault, _not_found())


_ONE = rf"{_ORDERS}/A_SalesOrder\('\d{{1,10}}'\)"

VENDOR = Vendor(
    name="sap",
    routes={
        ("POST", r"/oauth/token"): _token,
        ("GET", _ONE): _guarded(_get),
        ("PATCH", _ONE): _in_session(_patch),
        ("POST", rf"{_ONE}/to_Text"): _in_session(_add_text),
        ("PATCH", rf"{_ORDERS}/A_SalesOrderText\([^)]*\)"): _in_session(_change_text),
        ("GET", rf"{_ORDERS}/A_SalesOrder"): _guarded(_list),
        ("GET", rf"{re.escape(_DELIVERIES)}/A_OutbDeliveryHeader\('\d{{1,10}}'\)"): _guarded(_delivery),
    },
    settings={
        "client_id": CLIENT,
        "client_secret": _SECRET,
        "sap_client": "100",
        "webhook_token": _WEBHOOK_TOKEN,
        "idoc_user": "SAPS4H",
        "idoc_password": "sandbox-idoc",
        "contract_field": "PurchaseOrderByCustomer",
    },
    url_settings={"token_url": "/oauth/token"},
    refuse=_refuse,
)
