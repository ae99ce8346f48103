"""Letters: the parts and fields that mail systems read, and nothing that could start another line."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import SMTP

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordernotify.platforms._base import Refusal
from ordernotify.platforms._mail import Letter, compose, header_fault, line_fault, message_id, read_address

LETTER = Letter(
    sender="orders@shop.example",
    sender_name="Jörg, Northgate",
    reply_to="help@shop.example",
    to="buyer@example.com",
    subject="Order A-1001 has shipped",
    text="On its way.\n.\nFrom us",
    html="<p>On its wäy.</p>",
    message_id="<0123@shop.example>",
    date=datetime(2026, 11, 24, 12, 0, tzinfo=UTC),
    headers={"Organization": "Northgate"},
)


def read(letter: Letter):
    raw = compose(letter)
    assert isinstance(raw, bytes)
    return message_from_bytes(raw, policy=SMTP)


def test_a_letter_has_the_fields_of_a_mail_that_nobody_answers_by_machine():
    mail = read(LETTER)
    assert {name: str(mail[name]) for name in mail if name.lower() != "content-type"} == {
        "From": '"Jörg, Northgate" <orders@shop.example>',
        "To": "buyer@example.com",
        "Reply-To": "help@shop.example",
        "Subject": "Order A-1001 has shipped",
        "Date": "Tue, 24 Nov 2026 12:00:00 +0000",
        "Message-ID": "<0123@shop.example>",
        "Auto-Submitted": "auto-generated",
        "Organization": "Northgate",
        "MIME-Version": "1.0",
    }


def test_the_plain_part_stands_before_the_html_part():
    mail = read(LETTER)
    assert mail.get_content_type() == "multipart/alternative"
    assert [(part.get_content_type(), part.get_content()) for part in mail.iter_parts()] == [
        ("text/plain", "On its way.\r\n.\r\nFrom us\r\n"),
        ("text/html", "<p>On its wäy.</p>\r\n"),
    ]


def test_a_letter_without_html_is_plain_text():
    mail = read(replace(LETTER, html=""))
    assert mail.get_content_type() == "text/plain"


@given(
    st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=200),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=500),
)
def test_every_letter_is_ascii_in_short_lines_and_says_what_was_written(subject, text):
    raw = compose(replace(LETTER, subject=subject, text=text))
    assert isinstance(raw, bytes)
    assert raw.isascii()
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))
    assert b"\n" not in raw.replace(b"\r\n", b"")
    mail = message_from_bytes(raw, policy=SMTP)
    assert " ".join(str(mail["Subject"]).split()) == " ".join(subject.split())
    assert str(mail["To"]) == LETTER.to


@pytest.mark.parametrize("mark", ["\r", "\n", "\r\nBcc: x@y.example", "\0", "\x0b", "\x85", "\u2028"])
def test_a_line_break_in_a_subject_is_refused_by_name(mark):
    refusal = compose(replace(LETTER, subject=f"Order{mark} A-1001"))
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.field) == (422, "subject")


@pytest.mark.parametrize("name", ["X-A\r\nBcc", "X-A: b", "X A", "", "X-Ä", "x" * 77])
def test_a_header_name_that_is_none_is_refused(name):
    refusal = compose(replace(LETTER, headers={name: "value"}))
    assert isinstance(refusal, Refusal)
    assert refusal.field == "header name"


@pytest.mark.parametrize("name", ["bcc", "To", "Subject", "Content-Type", "MIME-Version", "Message-Id", "Resent-To"])
def test_a_header_that_would_change_the_letter_is_refused(name):
    refusal = header_fault(name, "value")
    assert refusal is not None
    assert refusal.field == name


def test_a_header_value_is_one_line():
    assert header_fault("X-A", "b\r\nBcc: c@d.example") is not None
    assert header_fault("X-A", "b\tc") is None
    assert line_fault("subject", "tab\tand space") is None


@pytest.mark.parametrize("to", ["", "a@b.example, c@d.example", "a@b.example\r\nBcc: c@d.example", "<a@b.example>"])
def test_a_letter_goes_to_one_address(to):
    refusal = compose(replace(LETTER, to=to))
    assert isinstance(refusal, Refusal)
    assert refusal.field == "to"


def test_an_address_is_an_email_address_and_a_refusal_does_not_repeat_it():
    assert read_address(" Buyer@Example.COM ") == "Buyer@example.com"
    refusal = read_address("somebody")
    assert isinstance(refusal, Refusal)
    assert (refusal.field, "somebody" in refusal.message) == ("address", False)


def test_a_message_id_lives_at_the_domain_of_its_sender():
    assert message_id("0123", "orders@shop.example") == "<0123@shop.example>"
