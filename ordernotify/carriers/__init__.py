"""The registry: every module of this folder that declares a CARRIER, found once at import."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

from ordernotify.carriers._base import Carrier
from ordernotify.core.tracking import normal_number


def _scan() -> Mapping[str, Carrier]:
    found: dict[str, Carrier] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda entry: entry.name):
        if module.name.startswith("_"):
            continue
        carrier = importlib.import_module(f"{__name__}.{module.name}").CARRIER
        if carrier.name != module.name:
            raise ValueError(f"carriers/{module.name}.py declares the name {carrier.name!r}: both must agree")
        found[carrier.name] = carrier
    return found


CARRIERS: Mapping[str, Carrier] = _scan()


def carrier_of(number: str, *, named: str = "") -> Carrier | None:
    """Return the carrier that moves a tracking number, None where it cannot be told for certain.

    ``named`` is what the order's source calls the carrier, which decides; without it the number's own form
    must fit exactly one carrier.
    """
    word = "".join(mark for mark in named.lower() if mark.isalnum())
    if word:
        by_name = [carrier for carrier in CARRIERS.values() if word.startswith(carrier.names)]
        return by_name[0] if len(by_name) == 1 else None
    written = normal_number(number)
    owners = [carrier for carrier in CARRIERS.values() if carrier.owns(written)]
    return owners[0] if len(owners) == 1 else None
