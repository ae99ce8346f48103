"""What carriers answer and push, in their own formats, for what happened to a parcel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ordernotify.sandbox.carrier_stories import Happened, Step

Json = dict[str, Any]
_OFFSET: Final = timedelta(hours=-5)  # where the parcels of the sandbox are
_DAYS: Final = timedelta(days=3)


def _local(moment: datetime) -> datetime:
    return moment.astimezone(UTC) + _OFFSET


def _zulu(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _promised(steps: Sequence[Happened]) -> datetime:
    return steps[0].at + _DAYS


# ---- UPS ----

_UPS: Mapping[Step, tuple[str, str, str, str]] = {
    Step.LABEL: ("M", "MP", "003", "Shipper created a label, UPS has not received the package yet."),
    Step.PICKED_UP: ("I", "OR", "038", "Picked up by UPS"),
    Step.MOVING: ("I", "DP", "005", "Departed from Facility"),
    Step.WEATHER: ("X", "W1", "053", "Severe weather conditions have delayed delivery."),
    Step.HELD: ("X", "GA", "126", "Pending release from Government Agency."),
    Step.CLEARED: ("I", "CL", "014", "Your package has cleared customs."),
    Step.OUT: ("I", "OT", "021", "Out For Delivery Today"),
    Step.ATTEMPTED: ("X", "48", "022", "The receiver was not available for delivery."),
    Step.DELIVERED: ("D", "FS", "011", "DELIVERED"),
    Step.RETURNING: ("X", "RS", "036", "Returning to Sender: In Transit"),
    Step.RETURNED: ("X", "R1", "034", "Returned to Sender"),
}


def _ups_status(step: Step) -> Json:
    kind, code, digits, text = _UPS[step]
    return {"type": kind, "code": code, "statusCode": digits, "description": text}


def ups_details(number: str, steps: Sequence[Happened]) -> Json:
    """Return the answer of UPS's Tracking API, newest activity first; without steps, its kind of not found."""
    if not steps:
        warning = {"code": "TW0001", "message": "Tracking Information Not Found"}
        return {"trackResponse": {"shipment": [{"inquiryNumber": number, "warnings": [warning]}]}}
    activity = [
        {
            "location": {"address": {"city": "Wayne", "stateProvince": "NJ", "countryCode": "US"}, "slic": "8566"},
            "status": _ups_status(one.step),
            "date": _local(one.at).strftime("%Y%m%d"),
            "time": _local(one.at).strftime("%H%M%S"),
            "gmtDate": one.at.strftime("%Y%m%d"),
            "gmtTime": one.at.strftime("%H:%M:%S"),
            "gmtOffset": "-05:00",
        }
        for one in reversed(steps)
    ]
    package = {
        "trackingNumber": number,
        "packageCount": 1,
        "currentStatus": _ups_status(steps[-1].step),
        "deliveryDate": [{"type": "SDD", "date": _local(_promised(steps)).strftime("%Y%m%d")}],
        "activity": activity,
    }
    return {"trackResponse": {"shipment": [{"inquiryNumber": number, "package": [package]}]}}


def ups_alert(number: str, steps: Sequence[Happened]) -> Json:
    """Return the alert of the newest step."""
    newest = steps[-1]
    kind, code, digits, text = _UPS[newest.step]
    local = _local(newest.at)
    return {
        "trackingNumber": number,
        "localActivityDate": local.strftime("%Y%m%d"),
        "localActivityTime": local.strftime("%H%M%S"),
        "activityLocation": {"city": "Wayne", "stateProvince": "NJ", "postalCode": "07470", "country": "US"},
        "activityStatus": {"type": kind, "code": code, "description": text, "descriptionCode": digits},
        "scheduledDeliveryDate": _local(_promised(steps)).strftime("%Y%m%d"),
        "actualDeliveryDate": local.strftime("%Y%m%d") if newest.step is Step.DELIVERED else "",
        "actualDeliveryTime": "",
        "gmtActivityDate": newest.at.strftime("%Y%m%d"),
        "gmtActivityTime": newest.at.strftime("%H%M%S"),
        "gmtOffset": "-05.00",
        "deliveryStartTime": "",
        "deliveryEndTime": "",
        "deliveryTimeDescription": "",
        "deliveryPhoto": "",
    }


# ---- FedEx ----

_FEDEX: Mapping[Step, tuple[str, str, str]] = {
    Step.LABEL: ("OC", "IN", "Shipment information sent to FedEx"),
    Step.PICKED_UP: ("PU", "PU", "Picked up"),
    Step.MOVING: ("DP", "IT", "Left FedEx origin facility"),
    Step.WEATHER: ("DY", "DY", "Delay"),
    Step.HELD: ("CD", "SE", "Clearance delay"),
    Step.CLEARED: ("CC", "IT", "International shipment release - Import"),
    Step.OUT: ("OD", "IT", "On FedEx vehicle for delivery"),
    Step.ATTEMPTED: ("DE", "DE", "Delivery exception"),
    Step.DELIVERED: ("DL", "DL", "Delivered"),
    Step.RETURNING: ("RS", "RS", "Returning package to shipper"),
    Step.RETURNED: ("RT", "RS", "Package returned to shipper"),
}
_FEDEX_REASONS: Mapping[Step, Json] = {
    Step.HELD: {"reason": "74", "reasonDescription": "Regulatory agency clearance: documents are missing"},
    Step.ATTEMPTED: {"reason": "08", "reasonDescription": "Recipient not in"},
}


def fedex_result(number: str, steps: Sequence[Happened]) -> Json:
    """Return one of FedEx's complete track results, newest scan first; without steps, its error inside."""
    info = {
        "trackingNumber": number,
        "trackingNumberUniqueId": f"245822~{number}~FDEG",
        "carrierCode": "FDXG",
    }
    if not steps:
        error = {
            "code": "TRACKING.TRACKINGNUMBER.NOTFOUND",
            "message": "Tracking number cannot be found. Please correct the tracking number and try again.",
        }
        return {"trackingNumber": number, "trackResults": [{"trackingNumberInfo": info, "error": error}]}
    code, derived, text = _FEDEX[steps[-1].step]
    reason = _FEDEX_REASONS.get(steps[-1].step)
    result = {
        "trackingNumberInfo": info,
        "latestStatusDetail": {
            "code": code,
            "derivedCode": derived,
            "statusByLocale": text,
            "description": text,
            "ancillaryDetails": [reason] if reason else [],
        },
        "scanEvents": [_fedex_scan(one) for one in reversed(steps)],
        "dateAndTimes": [{"type": "ESTIMATED_DELIVERY", "dateTime": _fedex_time(_promised(steps))}],
    }
    return {"trackingNumber": number, "trackResults": [result]}


def _fedex_time(moment: datetime) -> str:
    return _local(moment).strftime("%Y-%m-%dT%H:%M:%S-05:00")


def _fedex_scan(one: Happened) -> Json:
    code, derived, text = _FEDEX[one.step]
    return {
        "date": _fedex_time(one.at),
        "eventType": code,
        "eventDescription": text,
        "exceptionCode": "",
        "exceptionDescription": _FEDEX_REASONS.get(one.step, {}).get("reasonDescription", ""),
        "derivedStatusCode": derived,
        "derivedStatus": text,
        "scanLocation": {"city": "WAYNE", "stateOrProvinceCode": "NJ", "countryCode": "US"},
    }


def fedex_answer(results: Sequence[Json]) -> Json:
    """Return FedEx's answer, or push, that holds complete track results."""
    return {
        "transactionId": "624deea6-b709-470c-8c39-4b5511281492",
        "output": {"completeTrackResults": list(results)},
    }


# ---- USPS ----

_USPS: Mapping[Step, tuple[str, str, str]] = {
    Step.LABEL: ("Pre-Shipment", "GX", "Shipping Label Created, USPS Awaiting Item"),
    Step.PICKED_UP: ("Accepted", "03", "USPS in possession of item"),
    Step.MOVING: ("In Transit", "10", "Processed through USPS Facility"),
    Step.WEATHER: ("Alert", "DX", "Delayed: Weather"),
    Step.HELD: ("Alert", "H0", "Held in Customs"),
    Step.CLEARED: ("In Transit", "T1", "Departed USPS Facility"),
    Step.OUT: ("Out for Delivery", "OF", "Out for Delivery"),
    Step.ATTEMPTED: ("Delivery Attempt", "02", "Notice Left (No Authorized Recipient Available)"),
    Step.DELIVERED: ("Delivered", "01", "Delivered, Front Desk/Reception/Mail Room"),
    Step.RETURNING: ("Alert", "09", "Return to Sender"),
    Step.RETURNED: ("Alert", "21", "Returned to Sender"),
}


def usps_piece(number: str, steps: Sequence[Happened]) -> Json:
    """Return USPS's tracking of one mail piece, newest event first."""
    category, _, text = _USPS[steps[-1].step]
    return {
        "trackingNumber": number,
        "status": text,
        "statusCategory": category,
        "statusSummary": text,
        "mailClass": "USPS Ground Advantage<SUP>&#153;</SUP>",
        "mailType": "DM",
        "expectedDeliveryDate": _local(_promised(steps)).strftime("%Y-%m-%d"),
        "proofOfDeliveryEnabled": "false",
        "mailPieceIntakeDate": steps[0].at.strftime("%Y-%m-%d %H:%M:%S.000000"),
        "trackingEvents": [
            {
                "eventType": _USPS[one.step][2],
                "eventTimestamp": _local(one.at).strftime("%Y-%m-%dT%H:%M:%S"),
                "GMTTimestamp": _zulu(one.at),
                "GMTOffset": "-05:00",
                "eventCity": "WAYNE",
                "eventState": "NJ",
                "eventZIP": "07470",
                "eventCode": _USPS[one.step][1],
            }
            for one in reversed(steps)
        ],
    }


# ---- DHL ----

_DHL: Mapping[Step, tuple[str, str, str]] = {
    Step.LABEL: ("pre-transit", "pre-transit", "Shipment information received"),
    Step.PICKED_UP: ("transit", "PU", "Shipment picked up"),
    Step.MOVING: ("transit", "DF", "Shipment has departed from a DHL facility"),
    Step.WEATHER: ("transit", "OH", "Shipment on hold"),
    Step.HELD: ("transit", "CD", "Clearance event: further details are required"),
    Step.CLEARED: ("transit", "CR", "Clearance processing complete"),
    Step.OUT: ("transit", "WC", "Shipment is out with courier for delivery"),
    Step.ATTEMPTED: ("failure", "NH", "Delivery attempted; recipient not home"),
    Step.DELIVERED: ("delivered", "OK", "Delivered"),
    Step.RETURNING: ("failure", "RD", "Recipient refused delivery"),
    Step.RETURNED: ("delivered", "RT", "Returned to shipper"),
}


def dhl_shipments(number: str, steps: Sequence[Happened]) -> Json:
    """Return the answer of DHL's unified tracking; its times are local and have no zone."""
    events = [_dhl_event(one) for one in reversed(steps)]
    shipment = {
        "id": number,
        "service": "express",
        "origin": {"address": {"countryCode": "NL"}},
        "destination": {"address": {"countryCode": "US"}},
        "status": events[0],
        "estimatedTimeOfDelivery": _local(_promised(steps)).strftime("%Y-%m-%dT18:00:00"),
        "details": {"proofOfDeliverySignedAvailable": False, "pieceIds": ["JD0123"]},
        "events": events,
    }
    return {"shipments": [shipment]}


def _dhl_event(one: Happened) -> Json:
    common, code, text = _DHL[one.step]
    return {
        "timestamp": _local(one.at).strftime("%Y-%m-%dT%H:%M:%S"),
        "location": {"address": {"addressLocality": "DAYTON - OH"}},
        "statusCode": common,
        "status": code,
        "description": text,
    }
