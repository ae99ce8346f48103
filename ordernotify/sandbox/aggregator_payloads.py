"""What EasyPost, Shippo, AfterShip and 17TRACK tell of a parcel, in their own formats."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ordernotify.sandbox.carrier_stories import Happened, Step

Json = dict[str, Any]
_DAYS: Final = timedelta(days=3)


def _zulu(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _id_of(*parts: str) -> str:
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:24]


# ---- EasyPost ----

_EASYPOST: Mapping[Step, tuple[str, str, str]] = {
    Step.LABEL: ("pre_transit", "label_created", "Shipping Label Created"),
    Step.PICKED_UP: ("in_transit", "received_at_origin_facility", "Origin Scan"),
    Step.MOVING: ("in_transit", "departed_facility", "Departed Facility"),
    Step.WEATHER: ("in_transit", "weather_delay", "Severe weather conditions have delayed delivery"),
    Step.HELD: ("in_transit", "held", "Held in Customs"),
    Step.CLEARED: ("in_transit", "arrived_at_destination", "Arrived at Destination Country"),
    Step.OUT: ("out_for_delivery", "out_for_delivery", "Out for Delivery"),
    Step.ATTEMPTED: ("in_transit", "delivery_exception", "Delivery Attempted"),
    Step.DELIVERED: ("delivered", "arrived_at_destination", "Delivered"),
    Step.RETURNING: ("failure", "refused", "Refused"),
    Step.RETURNED: ("return_to_sender", "return", "Returned to Sender"),
}


def easypost_tracker(number: str, steps: Sequence[Happened], *, carrier: str = "UPS") -> Json:
    """Return a tracker, its details oldest first."""
    status, detail, _ = _EASYPOST[steps[-1].step] if steps else ("unknown", "unknown", "")
    details = [
        {
            "object": "TrackingDetail",
            "message": _EASYPOST[one.step][2],
            "status": _EASYPOST[one.step][0],
            "status_detail": _EASYPOST[one.step][1],
            "datetime": _zulu(one.at),
            "source": carrier,
            "carrier_code": "",
            "tracking_location": {"city": "WAYNE", "state": "NJ", "country": None, "zip": "07470"},
        }
        for one in steps
    ]
    return {
        "id": f"trk_{_id_of('tracker', number)}",
        "object": "Tracker",
        "mode": "production",
        "tracking_code": number,
        "status": status,
        "status_detail": detail,
        "carrier": carrier,
        "shipment_id": None,
        "signed_by": None,
        "est_delivery_date": _zulu(steps[0].at + _DAYS) if steps else None,
        "updated_at": _zulu(steps[-1].at) if steps else "2026-11-24T00:00:00Z",
        "tracking_details": details,
    }


def easypost_event(number: str, steps: Sequence[Happened]) -> Json:
    """Return the event of the newest step."""
    at = _zulu(steps[-1].at)
    return {
        "id": f"evt_{_id_of(number, at)}",
        "object": "Event",
        "mode": "production",
        "description": "tracker.updated" if len(steps) > 1 else "tracker.created",
        "previous_attributes": {"status": _EASYPOST[steps[-2].step][0]} if len(steps) > 1 else {},
        "status": "pending",
        "created_at": at,
        "updated_at": at,
        "user_id": "user_1",
        "result": easypost_tracker(number, steps),
    }


# ---- Shippo ----

_SHIPPO: Mapping[Step, tuple[str, str]] = {
    Step.LABEL: ("PRE_TRANSIT", "information_received"),
    Step.PICKED_UP: ("TRANSIT", "package_accepted"),
    Step.MOVING: ("TRANSIT", "package_departed"),
    Step.WEATHER: ("TRANSIT", "delayed"),
    Step.HELD: ("TRANSIT", "package_held"),
    Step.CLEARED: ("TRANSIT", "package_processed"),
    Step.OUT: ("TRANSIT", "out_for_delivery"),
    Step.ATTEMPTED: ("TRANSIT", "delivery_attempted"),
    Step.DELIVERED: ("DELIVERED", "delivered"),
    Step.RETURNING: ("RETURNED", "return_to_sender"),
    Step.RETURNED: ("RETURNED", "return_to_sender"),
}


def shippo_track(number: str, steps: Sequence[Happened], *, carrier: str = "ups") -> Json:
    """Return a track, its history oldest first; without steps its status is null."""
    history = [_shippo_status(number, one) for one in steps]
    return {
        "carrier": carrier,
        "tracking_number": number,
        "transaction": None,
        "metadata": "",
        "eta": _zulu(steps[0].at + _DAYS) if steps else None,
        "original_eta": None,
        "servicelevel": {"token": f"{carrier}_ground", "name": "Ground"},
        "messages": [],
        "tracking_status": history[-1] if history else None,
        "tracking_history": history,
    }


def _shippo_status(number: str, one: Happened) -> Json:
    status, code = _SHIPPO[one.step]
    at = _zulu(one.at)
    return {
        "object_id": _id_of(number, at, code),
        "object_created": at,
        "object_updated": at,
        "status": status,
        "status_details": code.replace("_", " ").capitalize(),
        "status_date": at,
        "substatus": {"code": code, "text": code.replace("_", " "), "action_required": False},
        "location": {"city": "Wayne", "state": "NJ", "zip": "07470", "country": "US"},
    }


def shippo_event(number: str, steps: Sequence[Happened], *, carrier: str = "ups") -> Json:
    """Return the webhook of a track's newest step."""
    return {"event": "track_updated", "test": False, "data": shippo_track(number, steps, carrier=carrier)}


# ---- AfterShip ----

_AFTERSHIP: Mapping[Step, tuple[str, str]] = {
    Step.LABEL: ("InfoReceived", "InfoReceived_001"),
    Step.PICKED_UP: ("InTransit", "InTransit_002"),
    Step.MOVING: ("InTransit", "InTransit_007"),
    Step.WEATHER: ("Exception", "Exception_017"),
    Step.HELD: ("Exception", "Exception_018"),
    Step.CLEARED: ("InTransit", "InTransit_005"),
    Step.OUT: ("OutForDelivery", "OutForDelivery_001"),
    Step.ATTEMPTED: ("AttemptFail", "AttemptFail_001"),
    Step.DELIVERED: ("Delivered", "Delivered_001"),
    Step.RETURNING: ("Exception", "Exception_010"),
    Step.RETURNED: ("Exception", "Exception_011"),
}


def aftership_tracking(number: str, steps: Sequence[Happened], *, slug: str = "ups") -> Json:
    """Return a tracking; the times of its checkpoints have no zone."""
    tag, subtag = _AFTERSHIP[steps[-1].step] if steps else ("Pending", "Pending_001")
    checkpoints = [
        {
            "checkpoint_time": one.at.strftime("%Y-%m-%dT%H:%M:%S"),
            "tag": _AFTERSHIP[one.step][0],
            "subtag": _AFTERSHIP[one.step][1],
            "raw_tag": "",
            "message": one.step.value,
            "slug": slug,
            "hash": _id_of(number, _zulu(one.at)),
        }
        for one in steps
    ]
    return {
        "id": _id_of("tracking", number),
        "tracking_number": number,
        "slug": slug,
        "order_id": None,
        "tag": tag,
        "subtag": subtag,
        "subtag_message": "",
        "shipment_delivery_date": None,
        "updated_at": steps[-1].at.astimezone(UTC).isoformat() if steps else "2026-11-24T00:00:00+00:00",
        "return_to_sender": False,
        "latest_estimated_delivery": {"datetime": (steps[0].at + _DAYS).date().isoformat()} if steps else None,
        "checkpoints": checkpoints,
    }


def aftership_event(number: str, steps: Sequence[Happened]) -> Json:
    """Return the webhook of the newest step."""
    at = steps[-1].at
    return {
        "ts": int(at.timestamp()),
        "event": "tracking_update",
        "event_id": _id_of("event", number, _zulu(at)),
        "is_tracking_first_tag": True,
        "msg": aftership_tracking(number, steps),
    }


# ---- 17TRACK ----

_SEVENTEENTRACK: Mapping[Step, tuple[str, str]] = {
    Step.LABEL: ("InfoReceived", "InfoReceived"),
    Step.PICKED_UP: ("InTransit", "InTransit_PickedUp"),
    Step.MOVING: ("InTransit", "InTransit_Departure"),
    Step.WEATHER: ("Exception", "Exception_Delayed"),
    Step.HELD: ("InTransit", "InTransit_CustomsRequiringInformation"),
    Step.CLEARED: ("InTransit", "InTransit_CustomsReleased"),
    Step.OUT: ("OutForDelivery", "OutForDelivery_Other"),
    Step.ATTEMPTED: ("DeliveryFailure", "DeliveryFailure_NoBody"),
    Step.DELIVERED: ("Delivered", "Delivered_Other"),
    Step.RETURNING: ("Exception", "Exception_Returning"),
    Step.RETURNED: ("Exception", "Exception_Returned"),
}


def seventeentrack_item(number: str, steps: Sequence[Happened]) -> Json:
    """Return an accepted item of ``gettrackinfo``, its events newest first."""
    events = [
        {
            "time_iso": one.at.astimezone(UTC).isoformat(),
            "time_utc": _zulu(one.at),
            "time_raw": {"date": one.at.strftime("%Y-%m-%d"), "time": one.at.strftime("%H:%M:%S"), "timezone": None},
            "description": one.step.value,
            "location": "Wayne, NJ, US",
            "stage": None,
            "sub_status": _SEVENTEENTRACK[one.step][1],
        }
        for one in reversed(steps)
    ]
    status, detail = _SEVENTEENTRACK[steps[-1].step] if steps else ("NotFound", "NotFound_Other")
    day = _zulu(steps[0].at + _DAYS) if steps else None
    return {
        "number": number,
        "carrier": 100002,
        "param": None,
        "tag": "",
        "track_info": {
            "latest_status": {"status": status, "sub_status": detail, "sub_status_descr": None},
            "latest_event": events[0] if events else None,
            "time_metrics": {"estimated_delivery_date": {"from": None, "to": day}},
            "milestone": [],
            "tracking": {"providers": [{"events": events}]},
        },
    }


def seventeentrack_event(number: str, steps: Sequence[Happened]) -> Json:
    """Return the webhook of the newest step."""
    return {"event": "TRACKING_UPDATED", "data": seventeentrack_item(number, steps)}
