"""The registry: every module of this folder that declares a PLATFORM, found once at import."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

from ordernotify.platforms._base import Platform


def _scan() -> Mapping[str, Platform]:
    found: dict[str, Platform] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda entry: entry.name):
        if module.name.startswith("_"):
            continue
        platform = importlib.import_module(f"{__name__}.{module.name}").PLATFORM
        if platform.name != module.name:
            raise ValueError(f"platforms/{module.name}.py declares the name {platform.name!r}: both must agree")
        found[platform.name] = platform
    return found


PLATFORMS: Mapping[str, Platform] = _scan()
