"""Internet mail: addresses and names that settings may hold, and one message as the bytes of RFC 5322."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from typing import Annotated, Final

from pydantic import AfterValidator

from ordernotify.core.delivery import Attachment
from ordernotify.core.recipients import Refused, read_email
from ordernotify.platforms._base import Refusal

# 7bit: not every server between here and the reader passes bytes above 127 unchanged.
_POLICY: Final = SMTP.clone(cte_type="7bit")
_HEADER_NAME: Final = re.compile(r"[!-9;-~]{1,76}")
# Whatever some parser takes for the end of a line, and NUL, at which some stop reading.
_BREAK: Final = re.compile(r"[\x00\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# What a letter sets itself, or what would make it go elsewhere or be read in another way.
_OURS: Final = frozenset(
    {"from", "sender", "reply-to", "to", "cc", "bcc", "subject", "date", "message-id", "auto-submitted"}
)
_UNPROCESSABLE: Final = 422


def read_address(text: str) -> str | Refusal:
    """Return an e-mail address, or why it is none."""
    address = read_email(text)
    return Refusal(_UNPROCESSABLE, "address", address.message) if isinstance(address, Refused) else address


def line_fault(name: str, value: str) -> Refusal | None:
    """Return why ``value`` cannot stand in the header field ``name``, None when it can."""
    if _BREAK.search(value):
        return Refusal(_UNPROCESSABLE, name, "must be one line, without CR, LF or NUL")
    return None


def header_fault(name: str, value: str) -> Refusal | None:
    """Return why a header field of somebody's own cannot be added to a letter, None when it can.

    The name is checked too: Python writes a line break in a name as it stands.
    """
    lower = name.lower()
    if not _HEADER_NAME.fullmatch(name):
        return Refusal(_UNPROCESSABLE, "header name", "must be ASCII, without spaces, colons and line breaks")
    if lower in _OURS or lower.startswith(("content-", "mime-", "resent-")):
        return Refusal(_UNPROCESSABLE, name, "is set for each message and cannot be given")
    return line_fault(name, value)


def _valid_address(value: str) -> str:
    address = read_email(value)
    if isinstance(address, Refused):
        raise ValueError("must be one e-mail address in ASCII, such as orders@example.com")  # noqa: TRY004 - a wrong value, not a wrong type
    return address


def _valid_name(value: str) -> str:
    if line_fault("name", value):
        raise ValueError("must be one line")
    return value


SenderAddress = Annotated[str, AfterValidator(_valid_address)]
OptionalAddress = Annotated[str, AfterValidator(lambda value: _valid_address(value) if value else "")]
DisplayName = Annotated[str, AfterValidator(_valid_name)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One message to one person, before it is bytes. ``message_id`` has its angle brackets."""

    sender: str
    sender_name: str = ""
    reply_to: str = ""
    to: str
    subject: str
    text: str
    html: str = ""
    message_id: str
    date: datetime
    headers: Mapping[str, str] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()


def compose(letter: Letter) -> bytes | Refusal:
    """Return the bytes of a letter, or which field keeps it from being one.

    The plain part stands first and the HTML part last: a reader takes the last one it understands.
    """
    to = read_email(letter.to)
    if isinstance(to, Refused):
        return Refusal(_UNPROCESSABLE, "to", to.message)
    if fault := line_fault("subject", letter.subject):
        return fault
    for name, value in letter.headers.items():
        if fault := header_fault(name, value):
            return fault
    message = EmailMessage(policy=_POLICY)
    message["From"] = Address(letter.sender_name, addr_spec=letter.sender)
    message["To"] = Address(addr_spec=to)
    if letter.reply_to:
        message["Reply-To"] = Address(addr_spec=letter.reply_to)
    message["Subject"] = letter.subject
    message["Date"] = letter.date
    message["Message-ID"] = letter.message_id
    message["Auto-Submitted"] = "auto-generated"  # keeps out-of-office replies from answering us
    for name, value in letter.headers.items():
        message[name] = value
    message.set_content(letter.text)
    if letter.html:
        message.add_alternative(letter.html, subtype="html")
    for one in letter.attachments:
        kind, _, subtype = one.content_type.partition("/")
        message.add_attachment(one.content, maintype=kind, subtype=subtype, filename=one.name)
    return message.as_bytes()


def form_with_files(
    fields: Sequence[tuple[str, str]], files: Sequence[Attachment], *, boundary: str
) -> tuple[str, bytes]:
    """Return the content type and body of a form with files (RFC 7578); their names are ours, plain ASCII."""
    parts = [
        b'Content-Disposition: form-data; name="%b"\r\n\r\n%b' % (name.encode(), value.encode())
        for name, value in fields
    ]
    parts += [
        b'Content-Disposition: form-data; name="attachment"; filename="%b"\r\nContent-Type: %b\r\n\r\n%b'
        % (one.name.encode(), one.content_type.encode(), one.content)
        for one in files
    ]
    edge = boundary.encode()
    body = b"".join(b"--%b\r\n%b\r\n" % (edge, part) for part in parts) + b"--%b--\r\n" % edge
    return f"multipart/form-data; boundary={boundary}", body


def message_id(reference: str, sender: str) -> str:
    """Return the Message-ID of our reference; it needs a domain with a dot, or mail systems replace it."""
    return f"<{reference}@{sender.rpartition('@')[2]}>"
