"""Outlook: the settings that reach a mailbox through Microsoft Graph, its token, its checks and its set-up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from pydantic import Field, SecretStr

from ordernotify.core.delivery import Outcome
from ordernotify.platforms._base import (
    Answer,
    Call,
    Context,
    Finding,
    PlatformSettings,
    Probe,
    Step,
    Token,
    TokenSource,
)
from ordernotify.platforms._mail import OptionalAddress, SenderAddress
from ordernotify.platforms._oauth import ask, authorization, read_token

_OK: Final = 200
_CODE = re.compile(r"[A-Za-z0-9_]{1,60}")


class OutlookSettings(PlatformSettings):
    """One mailbox of Microsoft 365, and the app registration that may send from it."""

    base_url: str = Field(
        default="https://graph.microsoft.com",
        description="Root of Microsoft Graph; https://graph.microsoft.us in GCC High.",
    )
    token_url: str = Field(
        default="https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token",
        description="Where access tokens are had; login.microsoftonline.us in GCC High. {tenant} is filled in.",
    )
    scope: str = Field(
        default="https://graph.microsoft.com/.default",
        description="Scope of the tokens; https://graph.microsoft.us/.default in GCC High.",
    )
    tenant: str = Field(
        pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$", description="Tenant: its id or its domain."
    )
    client_id: str = Field(pattern=r"^[A-Za-z0-9-]+$", description="Application (client) id of the app registration.")
    client_secret: SecretStr = Field(description="Client secret of the app registration: its value, not its id.")
    sender: SenderAddress = Field(description="Address of the mailbox that sends.")
    reply_to: OptionalAddress = Field(default="", description="Where answers go, if not to the sender.")
    both_parts: bool = Field(
        default=True,
        description="Send text and HTML together, one mail a request; false: HTML alone, up to 20 mails a request.",
    )
    save_to_sent_items: bool = Field(
        default=True,
        description="Keep a copy in Sent Items. Without it both_parts has no effect, and a mail whose answer was "
        "lost cannot be looked for.",
    )


def _ask(context: Context) -> Call:
    settings: OutlookSettings = context.settings
    fields = {
        "client_id": settings.client_id,
        "client_secret": settings.client_secret.get_secret_value(),
        "scope": settings.scope,
        "grant_type": "client_credentials",
    }
    return ask(settings.token_url.replace("{tenant}", settings.tenant), fields)


def _read(answer: Answer, context: Context) -> Token | Outcome:
    return read_token(answer, context.now, platform="outlook")


TOKEN: Final = TokenSource(build=_ask, read=_read)


def user(settings: OutlookSettings) -> str:
    """Return the path of the mailbox below the API's version."""
    return f"/users/{quote(settings.sender, safe='@')}"


def folder(settings: OutlookSettings) -> str:
    """Return the URL of the mailbox's Sent Items."""
    return f"{settings.base_url}/v1.0{user(settings)}/mailFolders/sentitems"


def error_code(answer: Answer) -> str:
    """Return Graph's code of an error, '' where the answer has none that looks like one."""
    body = answer.json()
    error = body.get("error") if isinstance(body, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""


def _find_folder(context: Context) -> Call:
    return Call("GET", f"{folder(context.settings)}?$select=id", authorization(context))


def _read_folder(answer: Answer, context: Context) -> Sequence[Finding]:
    settings: OutlookSettings = context.settings
    works = answer.status == _OK
    said = f"HTTP {answer.status} {error_code(answer)}".strip()
    advice = f"{said}: grant Mail.Send and Mail.Read to the app for {settings.sender}, and consent as an administrator"
    kept = settings.save_to_sent_items
    keep = "" if kept else "set save_to_sent_items: a mail whose answer was lost cannot be looked for without it"
    return (Finding("mailbox", ok=works, advice="" if works else advice), Finding("sent items", ok=kept, advice=keep))


PROBE: Final = Probe(build=_find_folder, read=_read_folder)


def provision(context: Context) -> Sequence[Step]:
    """Return what an administrator must do: an app may not widen its own rights."""
    settings: OutlookSettings = context.settings
    app, sender = settings.client_id, settings.sender
    roles = "\n".join(
        f'New-ManagementRoleAssignment -App "{app}" -Role "Application {right}" -CustomResourceScope "ordernotify"'
        for right in ("Mail.Send", "Mail.Read")
    )
    return (
        Step(
            title="Rights on one mailbox only",
            instruction="In Exchange Online PowerShell, with the object id of the enterprise application. Grant the "
            "app no Mail permission in Entra: that would open every mailbox of the tenant.\n"
            f'New-ServicePrincipal -AppId "{app}" -ObjectId "<object id>" -DisplayName "ordernotify"\n'
            f'New-ManagementScope -Name "ordernotify" -RecipientRestrictionFilter "PrimarySmtpAddress -eq '
            f"'{sender}'\"\n{roles}",
        ),
    )
