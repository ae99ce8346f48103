"""Credentials of platforms and carriers: from the environment, or from Prefect Blocks, whichever knows them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import structlog
from pydantic import ValidationError

from ordernotify.carriers import CARRIERS
from ordernotify.carriers._base import Carrier
from ordernotify.platforms import PLATFORMS
from ordernotify.platforms._base import Platform, PlatformSettings
from ordernotify.settings import configured, configured_carriers
from ordernotify.trust import trusted

BLOCK_NAME = "ordernotify"
_TIMEOUT_S = 5.0
# Under this name Prefect's server keeps the token that it grants this process.
_CLIENT = str(uuid4())

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
    wanted = {block_slug(name): name for name in everybody if name not in found}
    if not wanted:
        return _sorted(found)
    try:
        documents = await _documents(api_url, list(wanted))
    except httpx.HTTPStatusError as error:
        log.warning("blocks_unreadable", status=error.response.status_code)
        return _sorted(found, complete=False)
    except (httpx.HTTPError, ValueError) as error:
        log.warning("blocks_unreadable", kind=type(error).__name__)
        return _sorted(found, complete=False)
    for document in documents:
        name = wanted[document["block_type"]["slug"]]
        try:
            found[name] = everybody[name].settings.model_validate(document["data"])
        except ValidationError as error:
            fields = sorted({str(entry["loc"][0]) for entry in error.errors() if entry["loc"]})
            log.warning("block_unusable", platform=name, fields=fields)
    return _sorted(found)


async def _documents(api_url: str, slugs: Sequence[str]) -> list[dict[str, Any]]:
    """Return the Blocks of these types that are ours, in one question.

    Raises httpx.HTTPError without an answer or for a refusal, ValueError for an answer that is not Prefect's.
    """
    # Asked over Prefect's API rather than with its client, whose import alone takes seconds and 100 MB.
    user, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    async with httpx.AsyncClient(
        base_url=api_url, auth=(user, password), timeout=_TIMEOUT_S, trust_env=False, verify=trusted()
    ) as client:
        # A question that is posted needs a token, where the server protects itself against forged requests.
        granted = await client.get("/csrf-token", params={"client": _CLIENT})
        token = (
            {"prefect-csrf-client": _CLIENT, "prefect-csrf-token": granted.json()["token"]}
            if granted.is_success
            else {}
        )
        answer = await client.post(
            "/block_documents/filter",
            headers=token,
            json={
                "block_types": {"slug": {"any_": slugs}},
                "block_documents": {"name": {"any_": [BLOCK_NAME]}},
                "include_secrets": True,
            },
        )
        found: list[dict[str, Any]] = answer.raise_for_status().json()
        return found


def _sorted(found: Mapping[str, PlatformSettings], *, complete: bool = True) -> Credentials:
    return Credentials(
        {name: entry for name, entry in found.items() if name in PLATFORMS},
        {name: entry for name, entry in found.items() if name in CARRIERS},
        complete,
    )
