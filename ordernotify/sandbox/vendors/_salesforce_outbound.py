"""The simulated Salesforce's outbound messages: order changes as SOAP, with the secret in the URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from xml.sax.saxutils import escape

from ordernotify.sandbox._base import Callback
from ordernotify.sandbox.vendors._salesforce_login import ORGANIZATION

WEBHOOK_SECRET: Final = "SandboxOutboundSecret"  # noqa: S105 - of the sandbox, which guards nothing


def outbound_message(
    orders: Mapping[str, Mapping[str, str | None]], *, organization: str = ORGANIZATION, session: str = ""
) -> bytes:
    """Return the SOAP message about ``orders``: their selected fields by the id of the notification."""
    notifications = "".join(_notification(key, fields) for key, fields in orders.items())
    session_id = f"<SessionId>{escape(session)}</SessionId>" if session else '<SessionId xsi:nil="true"/>'
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"'
        ' xmlns:xsd="http://www.w3.org/2001/XMLSchema"'
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>'
        '<notifications xmlns="http://soap.sforce.com/2005/09/outbound">'
        f"<OrganizationId>{organization}</OrganizationId><ActionId>04k000000000001AAA</ActionId>{session_id}"
        "<EnterpriseUrl>https://sandbox.example/services/Soap/c/68.0/00D000000000001</EnterpriseUrl>"
        "<PartnerUrl>https://sandbox.example/services/Soap/u/68.0/00D000000000001</PartnerUrl>"
        f"{notifications}</notifications></soapenv:Body></soapenv:Envelope>"
    ).encode()


def _notification(key: str, fields: Mapping[str, str | None]) -> str:
    values = "".join(
        f'<sf:{name} xsi:nil="true"/>' if value is None else f"<sf:{name}>{escape(value)}</sf:{name}>"
        for name, value in fields.items()
    )
    kind = 'xsi:type="sf:Order" xmlns:sf="urn:sobject.enterprise.soap.sforce.com"'
    return f"<Notification><Id>{key}</Id><sObject {kind}>{values}</sObject></Notification>"


def outbound_callback(url: str, body: bytes) -> Callback:
    """Return the request that carries an outbound message, with the secret that the org was given."""
    between = "&" if "?" in url else "?"
    headers = {"content-type": "text/xml; charset=utf-8", "soapaction": '""'}
    return Callback(f"{url}{between}key={WEBHOOK_SECRET}", headers, body)
