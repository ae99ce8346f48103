"""DHL's words: five statuses common to all its divisions, and the codes of each division that say more."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from ordernotify.carriers._base import table
from ordernotify.carriers._telling import AVAILABLE, CUSTOMS, RETURNED, RETURNING
from ordernotify.core.events import OrderStatus as S
from ordernotify.core.tracking import UNMAPPED, Care, Meaning

_HOLD = Meaning(S.REGULATORY_HOLD, CUSTOMS)
_STOPPED = Meaning(S.REGULATORY_HOLD, care=Care.FIRST)
_OUT = Meaning(S.OUT_FOR_DELIVERY)
_PICKUP = Meaning(S.OUT_FOR_DELIVERY, AVAILABLE)
_AT_CUSTOMS = Meaning(S.DELAYED, CUSTOMS)
_STUCK = Meaning(S.DELAYED, CUSTOMS, Care.ALSO)
_GOING_BACK = Meaning(S.RETURNED, RETURNING)
_LOST = Meaning(S.DELAYED, care=Care.FIRST)
_NOTHING = Meaning(None)
_PERSON = Meaning(None, care=Care.FIRST)

# A code means something only within its division: PO is in delivery at parcel-de, leaving its origin at express.
_DIVISIONS: Mapping[str, tuple[tuple[Meaning, str], ...]] = {
    "express": (
        (Meaning(S.PROCESSING), "104"),
        (Meaning(S.SHIPPED), "PU SA AF AR DF PL SM TR FD PO RR CR BR BN IC 102"),
        (_OUT, "WC"),
        (_PICKUP, "CC"),
        (Meaning(S.DELIVERED), "OK 101"),
        (Meaning(S.DELIVERED, care=Care.ALSO), "PD DD"),  # in part, damaged
        (Meaning(S.DELAYED), "NH ND MD BA CM OH SS MS MC HP CA"),
        (Meaning(S.DELAYED, care=Care.ALSO), "103"),
        (_HOLD, "CD"),  # controllable: somebody must act
        (_AT_CUSTOMS, "UD"),
        (_GOING_BACK, "RD"),
        (Meaning(S.RETURNED, RETURNED), "RT"),
        (_NOTHING, "AD CS SC PY"),
        (_LOST, "DS"),
        (_PERSON, "TP"),
    ),
    "parcel-de": (
        (Meaning(S.SHIPPED), "ZO"),
        (_OUT, "PO"),
        (_PICKUP, "LA ZF"),
        (Meaning(S.DELIVERED), "ZU"),
        (Meaning(S.DELAYED), "BV ZN"),
        (_NOTHING, "DD"),  # a day was booked
    ),
    "parcel-nl": (
        (_OUT, "OUT_FOR_DELIVERY LOAD_VEHICLE PARCEL_INTO_FALLBACK"),
        (_STOPPED, "SHIPMENT_INTERCEPT SHIPMENT_STOPPED SHIPMENT_INSPECTION_REJECTED DENIED_PARTIES"),
        (_AT_CUSTOMS, "CLEARANCE_DELAY UNCONTROLLABLE_CLEARANCE_DELAY SHIPMENT_INSPECTION_ON_HOLD DUTY_INVOICE"),
        (_GOING_BACK, "CUSTOMS_DATA_INCORRECT_RETURN_TO_SHIPPER"),
        (Meaning(S.SHIPPED), "BONDED_LOCATION BREAK_BULK_SHIPMENT_PROCESSED_BY_CUSTOMS BROKER_RELEASED"),
        (Meaning(S.SHIPPED), "CLEARANCE_RELEASE IN_CLEARANCE_PROCESS PREPROCESS_HANDOVER_TO_EXPORT_CUSTOMS"),
        (Meaning(S.SHIPPED), "PREPROCESS_HANDOVER_TO_IMPORT_CUSTOMS SHIPMENT_INSPECTION"),
        (Meaning(S.SHIPPED), "SHIPMENT_INSPECTION_RELEASED VAT_AND_DUTY_PAYMENT_RECEIVED_BY_RECEIVER"),
    ),
    "parcel-pl": ((Meaning(S.SHIPPED), "EDB EDC EXA EXC SEC"),),
    "ecommerce": (
        (_OUT, "544 597 598"),
        (_HOLD, "443 506 507 453"),
        (_AT_CUSTOMS, "508 240 503"),
        (_STUCK, "448 107 608 588"),
        (_GOING_BACK, "108 602 800 802 804 806 808 810 811 813 815 816 817 818 820 821 849 853 854 855 856 857"),
        (_GOING_BACK, "858 859 862"),
        (Meaning(S.RETURNED, RETURNED), "860 863 864"),
        (_PERSON, "880 881 882 883 884 885 886 887"),  # a return that failed: what was told of it still holds
        (Meaning(S.SHIPPED), "441 442 447 449 452 463 464 501 502 509 241 504 242 805"),
        (Meaning(S.DELAYED), "844"),
        (Meaning(S.DELAYED, care=Care.ALSO), "809"),
        (_NOTHING, "807 867 868 869 870 871 872"),  # labels and papers, not the goods
        (_LOST, "825"),
    ),
    "ecommerce-europe": ((Meaning(S.SHIPPED), "130 133"), (_GOING_BACK, "259")),
    "ecommerce-ppl": (
        (_PICKUP, "343"),
        (Meaning(S.DELIVERED), "450"),
        (_GOING_BACK, "464"),
        (_LOST, "997"),
        (_PERSON, "999"),  # only its data was ever sent
    ),
    "freight": ((_OUT, "24-501"), (_HOLD, "20-126"), (_STUCK, "55-126"), (Meaning(S.SHIPPED), "12-0")),
    "dgf": (
        (_OUT, "OUT_FOR_DELIVERY"),
        (_HOLD, "HELD_AT_CUSTOMS"),
        (Meaning(S.SHIPPED), "ARRIVED_AT_CUSTOMS CLEARED_BY_CUSTOMS"),
    ),
    "svb": (
        (_OUT, "IN_DELIVERY"),
        (_HOLD, "HELD_BY_CUSTOMS"),
        (Meaning(S.SHIPPED), "HANDOVER_CUSTOMS IP_CUSTOMS"),
        (_GOING_BACK, "SENT_BACK SENT_BACK_ABROAD"),
        (Meaning(S.RETURNED, RETURNED), "RETURNED_TO_SENDER"),
    ),
}

COMMON: Final[Mapping[str, Meaning]] = {
    "pre-transit": Meaning(S.PROCESSING),
    "transit": Meaning(S.SHIPPED),
    "delivered": Meaning(S.DELIVERED),
    "failure": Meaning(S.DELAYED, care=Care.ALSO),
    "unknown": _NOTHING,
}
STATUSES: Final[Mapping[str, Meaning]] = {
    **COMMON,
    **{f"{service}/{code}": means for service, rows in _DIVISIONS.items() for code, means in table(rows).items()},
}

_BACK = re.compile(r"\breturn(ed|ing|s)?\b.*\b(sender|shipper|consignor|customer)\b", re.IGNORECASE)
_RETURN = re.compile(r"\breturn", re.IGNORECASE)


def meaning(service: str, code: str, common: str, words: str) -> Meaning:
    """Return what a status says: its division's code, else the common status, which ``words`` may refine.

    DHL files a return under delivered, because it did arrive somewhere.
    """
    found = STATUSES.get(f"{service}/{code}")
    if found is not None:
        return found
    if common == "delivered" and _BACK.search(words):
        return Meaning(S.RETURNED, RETURNED)
    if common == "failure" and _RETURN.search(words):
        return Meaning(S.RETURNED, RETURNING, Care.ALSO)
    return COMMON.get(common, UNMAPPED)
