"""The registry: every module of this folder that declares a VENDOR, found once at import."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

from ordernotify.sandbox._base import Vendor


def _scan() -> Mapping[str, Vendor]:
    found: dict[str, Vendor] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda entry: entry.name):
        if module.name.startswith("_"):
            continue
        vendor = importlib.import_module(f"{__name__}.{module.name}").VENDOR
        if vendor.name != module.name:
            raise ValueError(f"sandbox/vendors/{module.name}.py declares the name {vendor.name!r}: both must agree")
        found[vendor.name] = vendor
    return found


VENDORS: Mapping[str, Vendor] = _scan()
