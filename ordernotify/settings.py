"""Settings of the house: the only reader of the environment.

Every setting is ``ORDERNOTIFY_<NAME>``; a platform's or carrier's are ``ORDERNOTIFY_<PLATFORM>_<SETTING>`` and are
read by ``platform_settings``, which takes them from the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from ordernotify.carriers import CARRIERS
from ordernotify.carriers._base import Carrier, CarrierSettings
from ordernotify.platforms import PLATFORMS
from ordernotify.platforms._base import Platform, PlatformSettings

PREFIX = "ORDERNOTIFY_"


class Settings(BaseSettings):
    """What a person running the house may decide; every default works on one machine."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", hide_input_in_errors=True)

    state_dir: Path = Field(
        default=Path(".ordernotify"),
        description="Folder of the embedded database, keys and logs; nothing is written elsewhere.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="PostgreSQL to use instead of the embedded one, as a user who may create roles.",
    )
    app_url: SecretStr | None = Field(default=None, description="Our database as the application's role.")
    sealer_url: SecretStr | None = Field(default=None, description="Our database as the ledger's sealer.")
    reader_url: SecretStr | None = Field(default=None, description="Our database as a reader.")
    prefect_url: SecretStr | None = Field(default=None, description="Prefect's database, as its own role.")
    host: str = Field(default="127.0.0.1", description="Address the web app listens on.")
    port: int = Field(default=8420, description="Port of the web app; another free one if it is taken.")
    prefect_port: int = Field(default=4200, description="Port of Prefect's server; likewise.")
    sandbox_port: int = Field(default=8430, description="Port of the sandbox; likewise.")
    public_url: str = Field(
        default="", description="How platforms reach us from outside, for receipts; empty: host and port."
    )
    portal_url: str = Field(default="https://portal.example.com/", description="Link in every message.")
    extracts_dir: Path | None = Field(
        default=None,
        description="Folder in which order extracts are found (CSV, JSON lines, Parquet; the day in the name, as in"
        " orders-2026-11-24.csv; written under another name and renamed when complete); default in state_dir.",
    )
    extracts_sql_url: SecretStr | None = Field(
        default=None, description="Database with a table that is an order extract, once a day; postgresql://..."
    )
    extracts_sql_table: str = Field(default="", description="That table or view, as name or schema.name.")
    data_docs_days: int = Field(
        default=30,
        ge=1,
        description="Days for which the page of each extract's check is kept (state_dir/data_docs).",
    )
    summary_clients_a_run: int = Field(
        default=250, ge=1, description="Clients whose daily summaries one run makes; more are shared by more runs."
    )
    supplier_name: str = Field(default="Northgate Defense", description="Who the messages are from.")
    support_contact: str = Field(default="support@example.com", description="Where a client may ask.")
    origin: str = Field(default="ordernotify.example.com/log", description="Name of the ledger (C2SP origin).")
    signing_key_file: Path | None = Field(default=None, description="Ledger key; default in state_dir.")
    api_keys: str = Field(default="", description="Comma-separated keys for /api/v1; empty refuses everybody.")
    max_body_bytes: int = Field(default=1_048_576, description="Largest request body taken, in bytes.")
    max_upload_bytes: int = Field(default=5_242_880, description="Largest table taken by the portal, in bytes.")
    max_waiting: int = Field(
        default=200_000, description="Events that may wait before intake answers 503 with Retry-After."
    )
    default_region: str = Field(default="US", description="Region for phone numbers without a country code.")
    http_timeout_s: float = Field(
        default=60.0,
        description="Seconds to wait for a platform's answer. Long, because giving up leaves a delivery unknown.",
    )
    http_connections: int = Field(default=96, description="Connections to one platform at the same time.")
    ambiguous: Literal["at_most_once", "at_least_once"] = Field(
        default="at_most_once",
        description="What to do when nobody can say whether a message left: at_most_once or at_least_once.",
    )
    retry_budget_s: float = Field(
        default=20.0, description="Seconds that one run spends on retries; later ones come from the store."
    )
    track_with: str = Field(
        default="",
        description="Which configured carrier or service is asked about shipments whose own carrier is not"
        " configured or not known (easypost, shippo, aftership, seventeentrack, ...); empty: none.",
    )
    notice_within_min: int = Field(
        default=15, ge=1, description="Minutes within which clients must be told; later is an incident."
    )
    stuck_after_min: int = Field(
        default=30, ge=1, description="Minutes after which an event or a batch that does not get on is an incident."
    )
    stuck_after_h: int = Field(
        default=4, ge=1, description="Hours after which a message that did not get through is an incident."
    )
    answer_within_h: int = Field(
        default=24, ge=1, description="Hours in which somebody must end an incident; after them it escalates."
    )
    hold_lasts_h: int = Field(
        default=72,
        ge=1,
        description="Hours in which compliance must decide on a regulatory hold; then it is asked anew.",
    )


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the settings of this process, read once."""
    return Settings()


class PlatformNotConfiguredError(Exception):
    """A platform's settings are missing or wrong; the message names each variable and what it is for."""


def platform_settings(platform: Platform | Carrier, environment: Mapping[str, str] | None = None) -> PlatformSettings:
    """Return a platform's settings from the environment.

    Raises PlatformNotConfiguredError, naming the variables at fault, never their values.
    """
    source = os.environ if environment is None else environment
    values = {
        name: source[variable]
        for name in platform.settings.model_fields
        if (variable := variable_name(platform, name)) in source
    }
    try:
        return platform.settings.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_problem(platform, entry["loc"], entry["msg"]) for entry in error.errors())
        raise PlatformNotConfiguredError(f"{platform.title} is not configured: {problems}") from None


def variable_name(platform: Platform | Carrier, setting: str) -> str:
    """Return the environment variable of one setting of a platform."""
    return f"{PREFIX}{platform.name}_{setting}".upper()


def is_mentioned(platform: Platform | Carrier) -> bool:
    """Return whether the environment holds any setting of the platform, right or wrong."""
    return any(variable_name(platform, name) in os.environ for name in platform.settings.model_fields)


def configured() -> dict[str, PlatformSettings]:
    """Return the settings of every platform that the environment configures completely."""
    return {name: found for name, platform in PLATFORMS.items() if (found := _complete(platform)) is not None}


def configured_carriers() -> dict[str, CarrierSettings]:
    """Return the settings of every carrier that the environment configures completely."""
    return {
        name: found for name, carrier in CARRIERS.items() if isinstance(found := _complete(carrier), CarrierSettings)
    }


def _complete(platform: Platform | Carrier) -> PlatformSettings | None:
    if not is_mentioned(platform):
        return None
    try:
        return platform_settings(platform)
    except PlatformNotConfiguredError:
        return None


def _problem(platform: Platform | Carrier, location: tuple[int | str, ...], message: str) -> str:
    if not location:
        return message
    name = str(location[0])
    field = platform.settings.model_fields.get(name)
    about = f" ({field.description})" if field and field.description else ""
    return f"{variable_name(platform, name)}{about}: {message}"
