"""Attachments: every platform that takes files sends them as its vendor reads them, and no other one sees any."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import HTTP, SMTP

import pytest

from ordernotify.core.canonical import commitment
from ordernotify.core.channels import Channel
from ordernotify.core.delivery import Attachment, Message
from ordernotify.core.events import OrderStatus
from ordernotify.platforms import PLATFORMS
from ordernotify.platforms._base import Context, Token
from ordernotify.sandbox.vendors import VENDORS
from ordernotify.store.wording import message_bytes, message_commitment, read_message

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
FILE = Attachment("orders-2026-11-24.csv", "text/csv", b"\xef\xbb\xbfPedido,Estado\r\nSO-1,Enviado \xc3\xb1\r\n" * 40)
MESSAGE = Message(
    delivery_id="d",
    reference="0123456789abcdef0123456789abcdef",
    channel=Channel.EMAIL,
    to="buyer@example.com",
    status=OrderStatus.UNKNOWN,
    language="en",
    subject="Your orders",
    text="Your orders.",
    html="<p>Your orders.</p>",
    attachments=(FILE,),
)
TAKES_FILES = sorted(name for name, platform in PLATFORMS.items() if platform.attachment_bytes)


def call_of(name, message=MESSAGE, **settings):
    platform = PLATFORMS[name]
    values = {**VENDORS[name].settings, **settings}
    token = Token("t", NOW + timedelta(hours=1), {"issued_at": NOW.isoformat()})
    context = Context(
        settings=platform.settings.model_validate(values), now=NOW, token=token if platform.token else None
    )
    return next(platform.send([message], context))


def of_mail(raw):
    (file,) = message_from_bytes(raw, policy=SMTP).iter_attachments()
    return file.get_filename(), file.get_content_type(), file.get_payload(decode=True)


def of_sendgrid(call):
    (file,) = json.loads(call.body)["attachments"]
    return file["filename"], file["type"], base64.b64decode(file["content"])


def of_mailgun(call):
    form = message_from_bytes(
        b"content-type: " + call.headers["content-type"].encode() + b"\r\n\r\n" + call.body, policy=HTTP
    )
    parts = list(form.iter_parts())
    fields = {part.get_param("name", header="content-disposition") for part in parts}
    assert {"from", "to", "subject", "text", "html", "recipient-variables"} <= fields
    (file,) = [part for part in parts if part.get_filename()]
    return file.get_filename(), file.get_content_type(), file.get_payload(decode=True)


def of_gmail(call):
    return of_mail(base64.urlsafe_b64decode(json.loads(call.body)["raw"]))


def of_outlook(call):
    if call.headers["Content-Type"] == "text/plain":
        return of_mail(base64.b64decode(call.body))
    (file,) = json.loads(call.body)["message"]["attachments"]
    assert file["@odata.type"] == "#microsoft.graph.fileAttachment"
    return file["name"], file["contentType"], base64.b64decode(file["contentBytes"])


READERS = {"sendgrid": of_sendgrid, "mailgun": of_mailgun, "gmail": of_gmail, "outlook": of_outlook}


def test_the_platforms_that_take_files_are_those_that_send_mails_of_ours():
    assert sorted(READERS) == TAKES_FILES


@pytest.mark.parametrize(
    ("name", "settings"), [*((name, {}) for name in TAKES_FILES), ("outlook", {"both_parts": False})]
)
def test_a_file_goes_out_byte_for_byte(name, settings):
    assert READERS[name](call_of(name, **settings)) == (FILE.name, FILE.content_type, FILE.content)


@pytest.mark.parametrize("name", [one for one in TAKES_FILES if PLATFORMS[one].group])
def test_mails_with_different_files_share_no_call(name):
    platform = PLATFORMS[name]
    settings = platform.settings.model_validate(VENDORS[name].settings)
    other = replace(MESSAGE, reference="f" * 32, attachments=(Attachment(FILE.name, FILE.content_type, b"Pedido\r\n"),))
    assert platform.group(MESSAGE, settings) != platform.group(other, settings)


def test_a_file_is_stored_with_its_message_and_committed_to():
    assert read_message(message_bytes(MESSAGE)) == MESSAGE
    salt = bytes(32)
    without = replace(MESSAGE, attachments=())
    assert message_commitment(MESSAGE, salt) != message_commitment(without, salt)
    changed = replace(MESSAGE, attachments=(replace(FILE, content=b"x"),))
    assert message_commitment(MESSAGE, salt) != message_commitment(changed, salt)
    # A message without files is committed to as it always was.
    said = {"to": without.to, "subject": without.subject, "text": without.text, "html": without.html, "facts": []}
    assert message_commitment(without, salt) == commitment(salt, said)
