"""Addresses are read into one form, or refused with what would be right and without what was written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordernotify.core.channels import Channel
from ordernotify.core.recipients import ContactPoint, Recipient, Refused, read_email, read_phone


@pytest.mark.parametrize(
    ("written", "region", "number"),
    [
        ("+12025550123", None, "+12025550123"),
        (" +1 (202) 555-0123 ", None, "+12025550123"),
        ("(202) 555-0123", "US", "+12025550123"),
        ("202.555.0123", "US", "+12025550123"),
        ("＋12025550123", None, "+12025550123"),  # noqa: RUF001 - a full-width plus sign is the case
        ("+44 7400 123456", None, "+447400123456"),
        ("0151 23456789", "DE", "+4915123456789"),
    ],
)
def test_a_phone_number_is_read_as_e164(written, region, number):
    assert read_phone(written, region) == number


@pytest.mark.parametrize(
    ("written", "region", "why"),
    [
        ("202-555-0123", None, "country code"),
        ("+1202555012", None, "its country gives out"),
        ("+999123456789", None, "country code"),
        ("+1 900 555 0123", None, "premium-rate"),
        ("+44 909 879 0000", None, "premium-rate"),
        ("", None, "one phone number"),
        ("call +12025550123 please", None, "one phone number"),
        ("+12025550123 x5", None, "one phone number"),
        ("1-800-FLOWERS", "US", "one phone number"),
        ("+12025550123;+12025550124", None, "one phone number"),
        ("+1202555\x000123", None, "one phone number"),
    ],
)
def test_a_phone_number_is_refused_with_an_example(written, region, why):
    refused = read_phone(written, region)
    assert isinstance(refused, Refused)
    assert refused.field == "phone"
    assert why in refused.message
    assert "+12025550123" in refused.message


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("jane.doe@example.com", "jane.doe@example.com"),
        (" Jane.Doe+orders@Example.COM ", "Jane.Doe+orders@example.com"),
        ("o'brien@sub.example.co.uk", "o'brien@sub.example.co.uk"),
        ("info@bücher.example", "info@xn--bcher-kva.example"),
        ("info@bu\u0308cher.example", "info@xn--bcher-kva.example"),
        ("info@xn--bcher-kva.example", "info@xn--bcher-kva.example"),
        ("a@b.xn--p1ai", "a@b.xn--p1ai"),
        ("x" * 64 + "@example.com", "x" * 64 + "@example.com"),
    ],
)
def test_an_email_address_is_read_with_its_domain_in_ascii(written, address):
    assert read_email(written) == address


@pytest.mark.parametrize(
    "written",
    [
        "",
        "jane",
        "@example.com",
        "jane@",
        "jane@localhost",
        "jane@@example.com",
        "jane@doe@example.com",
        ".jane@example.com",
        "jane..doe@example.com",
        "jane.@example.com",
        "ja ne@example.com",
        "jane@exa mple.com",
        "jane@example.com\nBcc: all@example.com",
        "jane\u202e@example.com",
        "jane@exam\u200bple.com",
        '"jane doe"@example.com',
        "jane@[192.0.2.1]",
        "jane@192.0.2.1",
        "jane@-example.com",
        "jane@example-.com",
        "jane@example..com",
        "jane@exa_mple.com",
        "jané@example.com",
        "jane@stra\u00dfe.example",
        "Jane Doe <jane@example.com>",
        "a@example.com,b@example.com",
        "x" * 65 + "@example.com",
        "x@" + "y" * 64 + ".example",
        "x@" + ".".join(["y" * 60] * 5),
    ],
)
def test_an_email_address_is_refused_with_an_example(written):
    refused = read_email(written)
    assert isinstance(refused, Refused)
    assert refused.field == "email"
    assert "name@example.com" in refused.message


@given(st.text(max_size=60))
def test_reading_never_raises_and_is_done_once(text):
    for read in (read_email, read_phone):
        result = read(text)
        assert isinstance(result, Refused) or read(result) == result


def test_a_refusal_does_not_repeat_what_was_written():
    for refused in (read_email("jan\u00e9@secret.example"), read_phone("+1 900 555 7788")):
        assert isinstance(refused, Refused)
        assert "secret" not in refused.message
        assert "7788" not in refused.message


@given(st.emails())
def test_an_address_that_was_read_is_read_the_same_again(address):
    result = read_email(address)
    if not isinstance(result, Refused):
        assert read_email(result) == result
        assert result.isascii()


def test_no_name_or_address_is_shown_where_a_contact_is_printed():
    contact = ContactPoint(id="c1", channel=Channel.SMS, platform="twilio", address="+12025550123", verified=True)
    recipient = Recipient(id="r1", client_id="k1", name="Jane Doe", contacts=(contact,))
    assert "Jane" not in repr(recipient)
    assert "2025550123" not in repr(recipient)
