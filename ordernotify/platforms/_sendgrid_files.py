"""SendGrid: files that go with a mail."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from sendgrid.helpers.mail import Attachment as SendGridAttachment
from sendgrid.helpers.mail import FileContent, FileName, FileType, Mail

from ordernotify.core.delivery import Attachment


def attach(mail: Mail, files: Iterable[Attachment]) -> None:
    """Add ``files`` to a mail, which shows them to everybody it goes to."""
    for one in files:
        content = FileContent(base64.b64encode(one.content).decode("ascii"))
        mail.add_attachment(SendGridAttachment(content, FileName(one.name), FileType(one.content_type)))
