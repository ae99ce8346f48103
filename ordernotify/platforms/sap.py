"""SAP S/4HANA: order events from Event Mesh or IDocs, and notices written to the order, which SAP puts out."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final

import orjson

from ordernotify.core.channels import Channel, Level
from ordernotify.core.delivery import Accepted, Deferred, FailureKind, Message, Outcome, Rejected
from ordernotify.platforms._base import (
    Answer,
    Call,
    Context,
    Conversation,
    Finding,
    Gives,
    Idempotency,
    Platform,
    Probe,
    Refusal,
    Step,
    Webhook,
)
from ordernotify.platforms._sap_access import TOKEN, SapSettings, call, order_path, refusal
from ordernotify.platforms._sap_events import handshake, read
from ordernotify.platforms._sap_orders import REREAD, number
from ordernotify.platforms._sap_proof import verify

_K = FailureKind
_OK, _CREATED, _NO_CONTENT = 200, 201, 204
_FORBIDDEN, _PRECONDITION, _PRECONDITION_REQUIRED = 403, 412, 428
_ROUNDS = 5
_TOKEN = "x-csrf-token"  # noqa: S105 - the name of a header
_COOKIE = re.compile(r"(?:^|,)\s*([A-Za-z0-9!#$%&'*+.^_|~-]+=[^;,]*)")


def read_address(text: str) -> str | Refusal:
    """Return a sales order's number without leading zeros, or why it is none."""
    return number(text) or Refusal(422, "address", "must be a sales order: up to ten digits, such as 4800")


# ---- out: read the order, write its text, then the field that output management waits for ----


def _send(messages: Sequence[Message], context: Context) -> Conversation:
    (message,) = messages
    outcome = yield from _write(message, context)
    return [outcome]


def _write(message: Message, context: Context) -> Generator[Call, Answer, Outcome]:
    order = read_address(message.to)
    if isinstance(order, Refusal):
        return Rejected(_K.PERMANENT, "sap_address")
    outcome: Outcome = Deferred(_K.TRANSIENT, "sap_collisions")
    for _ in range(_ROUNDS):
        asked = yield _ask(order, context)
        found = _found(asked, context)
        if not isinstance(found, dict):
            return found
        if found.get(context.settings.reference_field) == message.reference:
            return Accepted(order, "sap_found")
        session = _session(asked, found)
        text = _text_call(order, found, message, context, session)
        answer = yield text or _order_call(order, message, context, session)
        if answer.status not in {_OK, _CREATED, _NO_CONTENT}:
            outcome = refusal(answer, context, asking=False)
            if not _is_outdated(answer):
                return outcome
        elif text is None:
            return Accepted(order, f"sap_{answer.status}")
        # The text moved the order's version, or somebody else did: the field is written to what is read now.
    return outcome


def _ask(order: str, context: Context) -> Call:
    settings: SapSettings = context.settings
    fields = ["SalesOrder", "LastChangeDateTime", settings.reference_field]
    fields += [settings.status_field] if settings.status_field else []
    query = f"?$select={','.join(fields)}&$format=json"
    if settings.text_id:
        query = f"?$expand=to_Text&$select={','.join([*fields, 'to_Text'])}&$format=json"
    # One request reads the order and opens the session that a write needs. The cookie is spelled out so that a
    # session that the connection still remembers does not take the place of the new one.
    client = f"&sap-client={settings.sap_client}" if settings.sap_client else ""
    headers = {_TOKEN: "Fetch", "cookie": f"sap-usercontext=sap-language={settings.text_language}{client}"}
    return call(context, "GET", order_path(settings, order, query), headers=headers)


def _found(answer: Answer, context: Context) -> dict[str, Any] | Outcome:
    if answer.status != _OK:
        return refusal(answer, context, asking=True)
    body = answer.json()
    found = body.get("d") if isinstance(body, dict) else None
    return found if isinstance(found, dict) else Deferred(_K.TRANSIENT, "sap_unreadable")


def _session(answer: Answer, found: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers of a write: the token with its cookies, and the version that was read."""
    metadata = found.get("__metadata")
    etag = metadata.get("etag") if isinstance(metadata, dict) else None
    headers = {"if-match": str(etag or answer.headers.get("etag") or "*")}
    if token := answer.headers.get(_TOKEN):
        headers[_TOKEN] = token
    # Several Set-Cookie lines arrive as one, joined with commas, which also stand in dates.
    if cookies := _COOKIE.findall(answer.headers.get("set-cookie", "")):
        headers["cookie"] = "; ".join(cookies)
    return headers


def _text_call(
    order: str, found: Mapping[str, Any], message: Message, context: Context, session: Mapping[str, str]
) -> Call | None:
    """Return the request that puts the words into the order's text, None where they stand there already."""
    settings: SapSettings = context.settings
    if not settings.text_id:
        return None
    held = found.get("to_Text")
    results = held.get("results") if isinstance(held, dict) else None
    key = {"Language": settings.text_language, "LongTextID": settings.text_id}
    for text in results if isinstance(results, list) else ():
        if isinstance(text, dict) and all(text.get(name) == value for name, value in key.items()):
            if text.get("LongText") == message.text:
                return None
            one = f"SalesOrder='{order}',Language='{settings.text_language}',LongTextID='{settings.text_id}'"
            path = f"{settings.order_service}/A_SalesOrderText({one})"
            # Texts have no version of their own; what is replaced is our own earlier notice.
            headers = {**session, "if-match": "*"}
            return call(context, "PATCH", path, {"LongText": message.text}, headers=headers)
    headers = {name: value for name, value in session.items() if name != "if-match"}
    return call(
        context, "POST", order_path(settings, order, "/to_Text"), {**key, "LongText": message.text}, headers=headers
    )


def _order_call(order: str, message: Message, context: Context, session: Mapping[str, str]) -> Call:
    settings: SapSettings = context.settings
    value = {settings.reference_field: message.reference}
    if settings.status_field and not message.notice_only:
        value[settings.status_field] = settings.status_words.get(message.status, message.status.value)
    return call(context, "PATCH", order_path(settings, order), value, headers=session)


def _is_outdated(answer: Answer) -> bool:
    """Return whether only what we read is too old: the version, or the token of the session."""
    if answer.status == _FORBIDDEN:
        return answer.headers.get(_TOKEN, "").lower() == "required"
    return answer.status in {_PRECONDITION, _PRECONDITION_REQUIRED}


# ---- setting up ----


def _ask_service(context: Context) -> Call:
    settings: SapSettings = context.settings
    fields = ",".join(one for one in ("SalesOrder", settings.reference_field, settings.status_field) if one)
    path = f"{settings.order_service}/A_SalesOrder?$top=1&$select={fields}&$format=json"
    return call(context, "GET", path)


def _read_service(answer: Answer, context: Context) -> Sequence[Finding]:
    settings: SapSettings = context.settings
    proofs = (settings.webhook_token, settings.jwt_key, settings.idoc_password)
    proved = any(proofs)
    push = Finding("pushes", proved, "" if proved else "set webhook_token, jwt_key or idoc_password")
    if answer.status == _OK:
        return (Finding("access", ok=True), Finding("fields", ok=True), push)
    outcome = refusal(answer, context, asking=True)
    kind = outcome.kind if isinstance(outcome, Deferred | Rejected) else None
    code = outcome.code
    if kind is _K.CONFIG or answer.status == 400:  # noqa: PLR2004 - a query that the service does not understand
        advice = f"SAP answers {code}: publish {settings.reference_field} and {settings.status_field} to the API"
        return (Finding("access", ok=True), Finding("fields", ok=False, advice=advice), push)
    advice = f"SAP answers {code}: check base_url, the communication arrangement and the client's roles"
    return (Finding("access", ok=False, advice=advice), push)


def provision(context: Context) -> Sequence[Step]:
    """Return what people set up in S/4HANA and Event Mesh, in order: neither is ours to change by API."""
    settings: SapSettings = context.settings
    url = context.webhook_url or "the webhook address of this platform"
    fields = ", ".join(
        f"{name.removeprefix('YY1_').removesuffix('_SDH')} (text, 64 characters)"
        for name in (settings.reference_field, settings.status_field)
        if name
    )
    return (
        Step(
            title="Communication arrangement",
            instruction="In Communication Management make a communication system with an OAuth 2.0 client, and the "
            "arrangements SAP_COM_0109 (sales orders) and SAP_COM_0106 (outbound deliveries). Put the client into "
            "client_id and client_secret, the token service into token_url, the host of the APIs into base_url.",
        ),
        Step(
            title="Fields of the order",
            instruction=f"In Custom Fields, business context Sales: Sales Document, make {fields}. Under UIs and "
            "Reports enable them for the API API_SALES_ORDER_SRV, then publish. On premise: append them to VBAK "
            "and extend the service.",
        ),
        Step(
            title="Output management",
            instruction="In Output Parameter Determination, object type Sales Document, add a rule that sends the "
            f"order confirmation to the sold-to party by e-mail when {settings.reference_field} was changed, and let "
            f"its form template print the header text {settings.text_id or '(text_id)'}. Without the rule nothing is "
            "put out, and no error says so.",
        ),
        Step(title="Event Mesh", instruction=_mesh(url)),
        Step(
            title="IDocs, where there is no Event Mesh",
            instruction=f"In SM59 make an HTTP connection (type G) to {url} with idoc_user and idoc_password, in WE21 "
            "a port of type XML HTTP with content type text/xml, and in WE20 partner profiles for DESADV, STPPOD and "
            "ORDRSP over it.",
        ),
    )


def _mesh(url: str) -> str:
    # To be sent by a person with the messaging credentials, which are others than those of the APIs.
    subscription = {
        "name": "ordernotify",
        "address": "queue:ordernotify",
        "qos": 1,
        "pushConfig": {
            "type": "webhook",
            "endpoint": url,
            "exemptHandshake": False,
            "defaultContentType": "application/json",
            "securitySchema": {
                "type": "oauth2",
                "grantType": "client_credentials",
                "clientId": "(a client of your token service)",
                "clientSecret": "(its secret)",
                "tokenUrl": "(your token service)",
            },
        },
    }
    body = orjson.dumps(subscription, option=orjson.OPT_INDENT_2).decode()
    return (
        "Make the queue ordernotify, subscribed to sap/s4/beh/salesorder/v1/SalesOrder/* and "
        "sap/s4/beh/outbounddelivery/v1/OutboundDelivery/*, and activate these topics in the Enterprise Event "
        "Enablement app. POST this to {messaging}/messagingrest/v1/subscriptions, then put the token service's "
        f"public key, issuer and our audience into jwt_key, jwt_issuer and jwt_audience:\n{body}"
    )


PLATFORM: Final = Platform(
    name="sap",
    title="SAP S/4HANA",
    settings=SapSettings,
    channels=frozenset({Channel.RECORD}),
    level=Level.C0,
    address="sales order number",
    example="4800",
    read_address=read_address,
    converse=_send,
    idempotency=Idempotency.OVERWRITE,
    idempotency_note="The order is read first: our reference in its field means that it is written. What is written "
    "again is the same text and the same fields, on the version that was read (If-Match).",
    token=TOKEN,
    webhook=Webhook(
        gives=frozenset({Gives.EVENTS}),
        verify=verify,
        read=read,
        handshake=handshake,
        signature="Authorization: Bearer, a fixed token or one signed with RS256; Basic for IDocs",
    ),
    reread=REREAD,
    probe=Probe(build=_ask_service, read=_read_service),
    provision=provision,
)
