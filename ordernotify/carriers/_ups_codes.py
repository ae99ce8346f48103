"""UPS's words: the three-digit status codes, and the types that speak where a code is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ordernotify.carriers._base import meaning_of, table
from ordernotify.carriers._telling import (
    ADDRESS,
    ATTEMPTED,
    AVAILABLE,
    CUSTOMS,
    RETURNED,
    RETURNING,
    WEATHER,
    WITH_AGENT,
)
from ordernotify.core.events import OrderStatus as S
from ordernotify.core.tracking import Care, Meaning

# Three digits decide, never the two letters beside them: those mean other things under every type.
STATUSES: Final[Mapping[str, Meaning]] = table(
    (
        (Meaning(S.PROCESSING), "003 079 080 157 166 077 044 045 065 131 135"),
        (Meaning(S.SHIPPED), "038 160 167 168 169"),
        (Meaning(S.SHIPPED), "005 010 025 039 047 057 071 073 074 075 087 094 137 158 159 164 165 016 138"),
        (Meaning(S.SHIPPED), "012 092 014 084 134"),  # clearance as it should be
        (Meaning(S.OUT_FOR_DELIVERY), "006 021 037 072 078 089 091 146 162"),
        (Meaning(S.OUT_FOR_DELIVERY, AVAILABLE), "017 040 144 161"),
        (Meaning(S.OUT_FOR_DELIVERY, WITH_AGENT, Care.ALSO), "143"),
        (Meaning(S.DELIVERED), "011 026"),
        (Meaning(S.DELAYED), "013 030 076 046 048 086 090 132 055 070 019 083 085 104 139"),
        (Meaning(S.DELAYED, WEATHER), "032 051 052 053"),
        (Meaning(S.DELAYED, ATTEMPTED), "022 023 024 060 061 062 066 145"),
        (Meaning(S.DELAYED, care=Care.ALSO), "029 049"),
        (Meaning(S.DELAYED, ADDRESS, Care.ALSO), "050"),
        (Meaning(S.REGULATORY_HOLD, CUSTOMS), "058 124 125 141 123 126"),
        (Meaning(S.REGULATORY_HOLD, care=Care.FIRST), "147 149"),  # seized, destroyed
        (Meaning(S.DELAYED, care=Care.ALSO), "059 068 069 093 127 128 129 130 140 142"),
        (Meaning(S.RETURNED, RETURNING), "064 035 036 117 118"),
        (Meaning(S.RETURNED, RETURNED), "034 067 081"),
        (Meaning(None, care=Care.FIRST), "007 043"),  # a label or a pickup voided, which cancels no order
        # Requests and their confirmations, new dates, photos.
        (Meaning(None), "018 020 027 028 033 041 042 054 056 063 082 095 096 097 098 099 100 101 102 103 105 106"),
        (Meaning(None), "107 108 109 110 111 112 113 114 115 116 119 120 121 122 133 136 153 154 155 156"),
        (Meaning(None), "000 088 148 163"),  # nothing to tell, or a test
    )
)

TYPES: Final[Mapping[str, Meaning]] = table(
    (
        (Meaning(S.DELIVERED), "D"),
        (Meaning(S.PROCESSING), "M"),
        (Meaning(None, care=Care.FIRST), "MV"),
        (Meaning(S.DELAYED), "X"),
        (Meaning(S.SHIPPED), "I P DO DD W"),  # P of old; the last three: freight, not with its consignee
        (Meaning(None), "U NA"),
    )
)
_ON_THE_VEHICLE = frozenset({"OF", "OT", "OD"})


def padded(code: str) -> str:
    """Return a status code with its three digits: some of UPS's own writers drop the zeros in front."""
    return code.zfill(3) if code.isascii() and code.isdigit() else code


def meaning(kind: str, letters: str, digits: str, *, delivered: bool = True) -> tuple[Meaning, str]:
    """Return what a status says, and the code that says it.

    ``delivered``: whether a delivery is confirmed, for pushes, which file other things under D too.
    """
    if digits in STATUSES:
        return STATUSES[digits], digits
    code = digits or f"{kind}/{letters}".strip("/")
    if digits:
        return meaning_of(STATUSES, digits), code
    if (kind == "I" and letters in _ON_THE_VEHICLE) or (kind == "D" and not delivered):
        return Meaning(S.OUT_FOR_DELIVERY), code
    return meaning_of(TYPES, kind), code
