"""Credentials of platforms and carriers: from the environment, or from Prefect Blocks, whichever knows them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import httpx
import structlog
from pydantic import ValidationError

from ordernotify.carriers import CARRIERS
from ordernotify.carriers._base import Carrier
from ordernotify.platforms import PLATFORMS
from ordernotify.platforms._base import Platform, PlatformSettings
from ordernotify.settings import configured, configured_carriers

BLOCK_NAME = "ordernotify"
_TIMEOUT_S = 5.0

log = structlog.get_logger(__name__)


def block_slug(platform: str) -> str:
    """Return the block type's slug of a platform, as ``blocks.platforms`` registers it."""
    return f"ordernotify-{platform.replace('_', '-')}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The settings of the configured platforms, and of the carriers.

    ``complete``: false when Prefect's server could not be asked. What is missing then may well be configured:
    nobody may be told that it is not.
    """

    settings: Mapping[str, PlatformSettings]
    carriers: Mapping[str, PlatformSettings]
    complete: bool = True


async def load_credentials(*, blocks: bool = True) -> Credentials:
    """Return the settings of every configured platform and carrier; the environment has the first word.

    With ``blocks``, Prefect's server is asked for the Block named ``ordernotify`` of every one that the
    environment does not configure. A Block that no longer fits is reported by name and left out.
    """
    found: dict[str, PlatformSettings] = {**configured(), **configured_carriers()}
    everybody: dict[str, Platform | Carrier] = {**PLATFORMS, **CARRIERS}
    api_url = os.environ.get("PREFECT_API_URL", "")
    if not blocks or not api_url:
        return _sorted(found)
    # Read over Prefect's API rather than with its client, whose import alone takes seconds and 100 MB.
    user, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    async with httpx.AsyncClient(auth=(user, password), timeout=_TIMEOUT_S, trust_env=False) as client:
        for name, platform in everybody.items():
            if name in found:
                continue
            address = f"{api_url}/block_types/slug/{block_slug(name)}/block_documents/name/{BLOCK_NAME}"
            try:
                answer = await client.get(address, params={"include_secrets": "true"})
            except httpx.TransportError as error:
                log.warning("blocks_unreadable", kind=type(error).__name__)
                return _sorted(found, complete=False)
            if answer.status_code == httpx.codes.NOT_FOUND:
                continue
            if answer.status_code != httpx.codes.OK:
                log.warning("blocks_unreadable", status=answer.status_code)
                return _sorted(found, complete=False)
            try:
                found[name] = platform.settings.model_validate(answer.json()["data"])
            except ValidationError as error:
                fields = sorted({str(entry["loc"][0]) for entry in error.errors() if entry["loc"]})
                log.warning("block_unusable", platform=name, fields=fields)
    return _sorted(found)


def _sorted(found: Mapping[str, PlatformSettings], *, complete: bool = True) -> Credentials:
    return Credentials(
        {name: entry for name, entry in found.items() if name in PLATFORMS},
        {name: entry for name, entry in found.items() if name in CARRIERS},
        complete,
    )
