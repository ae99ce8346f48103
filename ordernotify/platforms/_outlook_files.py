"""Outlook: a file that goes with a mail, as Graph's JSON has it."""

from __future__ import annotations

import base64

from ordernotify.core.delivery import Attachment


def file_attachment(one: Attachment) -> dict[str, str]:
    """Return a file as an attachment of a Graph message."""
    return {
        "@odata.type": "#microsoft.graph.fileAttachment",
        "name": one.name,
        "contentType": one.content_type,
        "contentBytes": base64.b64encode(one.content).decode("ascii"),
    }
