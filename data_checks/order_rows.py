"""One row of an order extract as an order event, by the same rules as an event that comes through the door."""

from __future__ import annotations

from dataclasses import replace

from ordernotify.clock import now
from ordernotify.core.events import OrderEvent, Trigger
from ordernotify.core.extracts import SOURCE, Row, content_key
from ordernotify.platforms._base import Refusal
from ordernotify.platforms._events import EventBody, event_key
from ordernotify.platforms._reading import read_value

_SAME_NAME = ("order_no", "client", "status", "detail", "contract", "label", "carrier", "tracking_no", "promised_date")


def event_of(row: Row) -> OrderEvent | Refusal:
    """Return the event that a row tells of, or a Refusal that names the field at fault."""
    data: dict[str, object] = {name: row[name] for name in _SAME_NAME if row.get(name)}
    data["order_id"] = row.get("order_no", "")
    data["occurred_at"] = row.get("changed_at", "")
    if row.get("sku"):
        quantity = row.get("quantity", "")
        data["lines"] = [{"sku": row["sku"], "quantity": int(quantity) if quantity.isdecimal() else quantity}]
    body = read_value(EventBody, data)
    if isinstance(body, Refusal):
        return body
    event = body.to_event(source=SOURCE, dedupe_key="", default_time=now())
    return replace(
        event,
        # However a file spells the moment, it is the same row.
        dedupe_key=content_key({**row, "changed_at": event.occurred_at.isoformat()}),
        # An order's number is its client's own: two clients may have the same.
        order_ref=event_key(event.client_ref, event.order_no),
        trigger=Trigger.BATCH,
    )
