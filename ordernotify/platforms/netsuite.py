"""NetSuite: order events posted by the account's script, and notices written to the order, which SuiteFlow mails."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ordernotify.core.channels import Channel, Level
from ordernotify.core.delivery import Accepted, FailureKind, Message, Outcome, Rejected
from ordernotify.platforms._base import (
    Answer,
    Call,
    Context,
    Finding,
    Gives,
    Idempotency,
    Platform,
    Probe,
    Refusal,
    Step,
    Webhook,
    each,
)
from ordernotify.platforms._netsuite_access import TOKEN, NetSuiteSettings, call, refusal
from ordernotify.platforms._netsuite_events import read
from ordernotify.platforms._netsuite_sdf import SECRET_ID, project
from ordernotify.platforms._standard import verify_signature

_OK, _NO_CONTENT = 200, 204
_INTERNAL = re.compile(r"id:[1-9][0-9]{0,18}")
_EXTERNAL = re.compile(r"(?:eid:)?([A-Za-z0-9_-]{1,64})")


def read_address(text: str) -> str | Refusal:
    """Return ``id:`` with a sales order's internal id, or ``eid:`` with its external id; or why it is neither.

    A bare number is an order number, never an internal id: the order of that id is somebody else's.
    """
    address = text.strip()
    if _INTERNAL.fullmatch(address):
        return address
    found = _EXTERNAL.fullmatch(address)
    if found is not None:
        return f"eid:{found.group(1)}"
    return Refusal(422, "address", "must be id: and an internal id (id:1234), or an external id (eid:SO-1001)")


# ---- out ----


def build(messages: Sequence[Message], context: Context) -> Call | Rejected:
    """Return the request that writes a notice into an order's fields; a workflow mails when they change."""
    (message,) = messages
    settings: NetSuiteSettings = context.settings
    address = read_address(message.to)
    if isinstance(address, Refusal):
        return Rejected(FailureKind.PERMANENT, "netsuite_address")
    value = {settings.text_field: message.text, settings.reference_field: message.reference}
    if not message.notice_only:
        value[settings.status_field] = settings.status_words.get(message.status, message.status.value)
    return call(context, "PATCH", f"salesOrder/{address.removeprefix('id:')}", value)


def read_answer(answer: Answer, messages: Sequence[Message], context: Context) -> Sequence[Outcome]:
    """Return what NetSuite made of a notice; a success has no body, only the record's URL."""
    if answer.status in {_OK, _NO_CONTENT}:
        record = answer.headers.get("location", "").rstrip("/").rpartition("/")[2]
        known = re.fullmatch(r"[A-Za-z0-9:_-]{1,80}", record)
        return each(Accepted(record if known else "", f"netsuite_{answer.status}"), messages)
    return each(refusal(answer, context, asking=False), messages)


# ---- setting up ----


def _read_orders(answer: Answer, context: Context) -> Sequence[Finding]:
    if answer.status == _OK:
        return (Finding("access", ok=True),)
    found = refusal(answer, context, asking=True)
    advice = f"NetSuite answers {found.code}: check the account, the keys, and the role's right to sales orders"
    return (Finding("access", ok=False, advice=advice),)


def provision(context: Context) -> Sequence[Step]:
    """Return what people set up in the account: the project to deploy, the secret, the workflow, the login."""
    settings: NetSuiteSettings = context.settings
    if not context.webhook_url:
        return (Step(title="Project", instruction="Set ORDERNOTIFY_PUBLIC_URL, then provision again."),)
    files = project(settings, context.webhook_url)
    return (
        Step(
            title="Secret of the script",
            instruction=f"Under Setup > Company > API Secrets make {SECRET_ID} from webhook_secret: what follows "
            "whsec_, without that mark. Allow it for the script of the project and for this host alone.",
        ),
        *(Step(title=f"File {path}", instruction=text) for path, text in files.items()),
        Step(
            title="Deploy",
            instruction="Put the files above into one folder and run `suitecloud project:deploy`. NetSuite repeats "
            "no post that failed: its script log shows each, and saving the order again posts it again.",
        ),
        Step(title="Workflow that mails", instruction=_workflow(settings)),
        Step(title="Login", instruction=_login(settings)),
    )


def _workflow(settings: NetSuiteSettings) -> str:
    return (
        "Under Customization > Workflow > Workflows > New: record type Transaction, sub type Sales Order, release "
        "status Released, execute as admin; initiation Event Based, on Update, trigger After Record Submit, contexts "
        f"REST Web Services. Condition: {settings.reference_field} is not empty, and differs from the Old Record's. "
        "One state with one action, Send Email: to the order's field To Be Emailed, subject Order {tranid}, body "
        f"{{{settings.text_field}}}. Without it nobody is mailed, and no error says so."
    )


def _login(settings: NetSuiteSettings) -> str:
    role = "Give the role Sales Order (Edit), REST Web Services and the login's own permission, and nothing more."
    if settings.private_key is None:
        return f"The integration record allows Token-Based Authentication. {role} New accounts take OAuth 2.0 instead."
    return (
        "The integration record allows Client Credentials (Machine to Machine) with the scope REST Web Services; map "
        f"its certificate to the role under Setup > Integration > OAuth 2.0 Client Credentials Setup. {role}"
    )


PLATFORM = Platform(
    name="netsuite",
    title="Oracle NetSuite",
    settings=NetSuiteSettings,
    channels=frozenset({Channel.RECORD}),
    level=Level.C0,
    address="id: and a sales order's internal id, or its external id",
    example="id:1234",
    read_address=read_address,
    build=build,
    read_answer=read_answer,
    idempotency=Idempotency.OVERWRITE,
    idempotency_note="What is sent again writes the same words and the same reference, which starts no workflow.",
    token=TOKEN,
    webhook=Webhook(
        gives=frozenset({Gives.EVENTS}),
        verify=verify_signature,
        read=read,
        signature="webhook-signature: v1, HMAC-SHA256 over id, timestamp and body; within 5 minutes",
    ),
    probe=Probe(build=lambda context: call(context, "GET", "salesOrder?limit=1"), read=_read_orders),
    provision=provision,
    # No per_second: NetSuite limits how many calls run at once, for the account as a whole; its answer is RATE.
)
