"""Resends: the reasons for which a person may send again what was sent."""

from __future__ import annotations

from enum import StrEnum


class ResendReason(StrEnum):
    """Why a message is sent again, though it was sent."""

    CLIENT_ASKED = "client_asked"
    LOST_BY_PLATFORM = "lost_by_platform"
    ADDRESS_CORRECTED = "address_corrected"
    CONTENT_CORRECTED = "content_corrected"
    DRILL = "drill"
