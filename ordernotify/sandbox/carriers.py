"""The simulated carriers by name: shipments are asked for there, and told of by the services that push."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ordernotify.sandbox._aggregator_vendors import AFTERSHIP, EASYPOST, SEVENTEENTRACK, SHIPPO
from ordernotify.sandbox._base import Vendor
from ordernotify.sandbox._carrier_vendors import DHL, FEDEX, UPS, USPS

CARRIER_VENDORS: Final[Mapping[str, Vendor]] = {
    vendor.name: vendor for vendor in (UPS, FEDEX, USPS, DHL, EASYPOST, SHIPPO, AFTERSHIP, SEVENTEENTRACK)
}
