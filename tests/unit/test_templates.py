"""The shipped templates: every message, on every channel, in every language, is fit to be sent."""

import re
import tomllib
from pathlib import Path

import pytest

from ordernotify.core import segments
from ordernotify.core.channels import LIMITS, Channel
from ordernotify.core.events import OrderStatus
from ordernotify.core.labels import FIELD_LABELS, NOTICE_FIELDS, Label, field_label
from ordernotify.core.planning import CORRECTION_TEMPLATE, NOTICE_TEMPLATE, SUMMARY_TEMPLATE
from ordernotify.rendering import Library, Rendered
from ordernotify.rendering.words import TOLD

LIBRARY = Library.load()
WORDS = Path(__file__).resolve().parents[2] / "templates" / "_words"
MESSAGES = [
    pytest.param(name, channel, language, id=f"{name}-{channel}-{language}")
    for name in LIBRARY.templates
    if name != SUMMARY_TEMPLATE  # which lists orders, and has tests of its own
    for channel in Channel
    for language in LIBRARY.languages
]
STATUS_MESSAGES = sorted(set(LIBRARY.templates) - {NOTICE_TEMPLATE, SUMMARY_TEMPLATE})
LEFTOVER = re.compile(r"\{\{|\}\}|\{%|%\}|\bNone\b|Undefined|say_|\[see portal\]|\[vea el portal\]")
WORDS_OF_GOOD_NEWS = re.compile(r"approved|cleared|on its way|shipped|deliver|aprobad|enviad|entreg", re.IGNORECASE)


def said(name, channel, language, fields):
    made = LIBRARY.render(template=name, channel=channel, language=language, fields=fields)
    assert isinstance(made, Rendered), made
    return made


def required_samples(name):
    facts = LIBRARY.facts(name)
    return {field: value for field, value in LIBRARY.samples(name).items() if field in facts.required}


def test_there_is_a_message_for_every_status_but_unknown_for_a_correction_a_notice_and_a_summary():
    told = {status.value for status in OrderStatus} - {"unknown"}
    assert set(LIBRARY.templates) == told | {CORRECTION_TEMPLATE, NOTICE_TEMPLATE, SUMMARY_TEMPLATE}


@pytest.mark.parametrize(("name", "channel", "language"), MESSAGES)
def test_a_message_with_all_its_fields_leaves_no_placeholder_and_shows_what_it_was_given(name, channel, language):
    made = said(name, channel, language, LIBRARY.samples(name))
    assert not LEFTOVER.search(f"{made.subject}\n{made.text}\n{made.html}")
    assert made.text
    assert (made.subject != "") == (LIMITS[channel].subject > 0)
    assert (made.html != "") == (channel is Channel.EMAIL)
    identifier = LIBRARY.samples(name).get("order_no") or LIBRARY.samples(name)["notice_ref"]
    assert identifier in made.text
    assert LIBRARY.samples(name)["portal_url"] in made.text
    assert (made.template, made.language, made.fallback) == (name, language, False)


@pytest.mark.parametrize(("name", "channel", "language"), MESSAGES)
def test_a_message_reads_well_without_its_optional_fields(name, channel, language):
    known = {**dict.fromkeys(LIBRARY.facts(name).fields, ""), **required_samples(name)}
    made = said(name, channel, language, known)
    whole = f"{made.subject}\n{made.text}\n{made.html}"
    assert not LEFTOVER.search(whole)
    assert not re.search(r" [.,;:]| {2}(?=\S)|\.\.|\(\)", made.subject + "\n" + made.text)
    assert not re.search(r"<p>\s*</p>|<td[^>]*>\s*</td>|href=\"\"", made.html)


@pytest.mark.parametrize("name", [one for one in STATUS_MESSAGES if "lines" in LIBRARY.facts(one).fields])
def test_withheld_items_are_marked_and_other_withheld_fields_are_left_out(name):
    for language, marker in (("en", "[see portal]"), ("es", "[vea el portal]")):
        made = said(name, Channel.EMAIL, language, required_samples(name))
        assert made.text.count(marker) == 1
        assert made.html.count(marker) == 1
        assert made.variables["lines"] == marker


@pytest.mark.parametrize("name", STATUS_MESSAGES)
def test_a_text_message_starts_with_the_supplier_and_keeps_to_the_alphabet_and_size_of_cheap_texts(name):
    for language, most in (("en", 1), ("es", 2)):
        made = said(name, Channel.SMS, language, LIBRARY.samples(name))
        size = segments.count(made.text)
        assert made.text.startswith(f"{LIBRARY.samples(name)['supplier_name']}: ")
        assert size.encoding is segments.Encoding.GSM7
        assert size.segments <= most


@pytest.mark.parametrize("language", LIBRARY.languages)
def test_every_status_and_detail_word_fits_the_alphabet_of_cheap_texts(language):
    for name in ("out_for_delivery", CORRECTION_TEMPLATE, "delayed"):
        details = tomllib.loads((WORDS / f"{language}.toml").read_text(encoding="utf-8"))["details"]
        for status in TOLD:
            for detail in details:
                fields = LIBRARY.samples(name) | {"status": status, "detail": detail}
                text = said(name, Channel.SMS, language, fields).text
                assert segments.count(text).encoding is segments.Encoding.GSM7, text


def test_only_the_first_text_message_says_how_to_stop():
    for name in LIBRARY.templates:
        for language in LIBRARY.languages:
            text = said(name, Channel.SMS, language, LIBRARY.samples(name)).text
            assert ("STOP" in text) == (name == "received")
    received = said("received", Channel.SMS, "en", LIBRARY.samples("received")).text
    assert received.endswith("Reply STOP to opt out")


def test_a_regulatory_hold_says_that_a_review_is_in_progress_and_nothing_that_sounds_like_news():
    for channel in Channel:
        made = said("regulatory_hold", channel, "en", LIBRARY.samples("regulatory_hold"))
        assert "required review" in made.text
        assert not re.search(r"customs|export|licen[sc]e|ITAR|agency", made.text, re.IGNORECASE)
        for language in LIBRARY.languages:
            spoken = said("regulatory_hold", channel, language, LIBRARY.samples("regulatory_hold"))
            assert not WORDS_OF_GOOD_NEWS.search(spoken.text)


def test_an_order_waiting_for_pickup_is_never_called_out_for_delivery():
    fields = LIBRARY.samples("out_for_delivery") | {"detail": "available_for_pickup"}
    for channel in Channel:
        made = said("out_for_delivery", channel, "en", fields)
        assert "Ready for pickup" in made.text
        assert "out for delivery" not in (made.subject + made.text + made.html).lower()
        assert ("Status", "Ready for pickup") in made.facts


def test_a_correction_says_that_the_former_message_was_wrong_and_what_is_right():
    for channel in (Channel.SMS, Channel.CHAT, Channel.EMAIL):
        text = said(
            CORRECTION_TEMPLATE, channel, "en", LIBRARY.samples(CORRECTION_TEMPLATE) | {"status": "delayed"}
        ).text
        assert "was wrong" in text
        assert "Delayed" in text


def test_a_notice_says_exactly_that_there_is_an_update_and_never_which():
    fields = LIBRARY.samples(NOTICE_TEMPLATE)
    sentence = "An update is available in the secure portal. Reference N-7F3K-Q2WM-81TX."
    assert said(NOTICE_TEMPLATE, Channel.SMS, "en", fields).text == f"{sentence} {fields['portal_url']}"
    assert said(NOTICE_TEMPLATE, Channel.CHAT, "en", fields).text == f"{sentence}\n{fields['portal_url']}"
    everything = {name: value for one in STATUS_MESSAGES for name, value in LIBRARY.samples(one).items()}
    for channel in Channel:
        alone = said(NOTICE_TEMPLATE, channel, "en", fields)
        assert alone == said(NOTICE_TEMPLATE, channel, "en", everything | fields)
        for name in everything.keys() - NOTICE_FIELDS:
            assert everything[name] not in alone.text + alone.html + alone.subject


def test_a_notice_needs_public_fields_only_and_has_no_notice_of_its_own():
    facts = LIBRARY.facts(NOTICE_TEMPLATE)
    assert facts.fields <= NOTICE_FIELDS
    assert facts.ceiling is Label.PUBLIC
    assert not facts.permits_notice
    assert all(LIBRARY.facts(name).permits_notice for name in STATUS_MESSAGES)


def test_no_field_can_bear_a_label_above_its_templates_ceiling():
    for name in LIBRARY.templates:
        facts = LIBRARY.facts(name)
        assert facts.required <= facts.fields <= FIELD_LABELS.keys()
        for order in (label for label in Label if label <= Label.CUI_SP):
            for field in facts.fields:
                assert field_label(field, order, government=True) <= facts.ceiling


def test_the_longest_values_still_fit_every_channel():
    longest = {
        "supplier_name": "W" * 99,
        "support_contact": "W" * 999,
        "portal_url": "https://portal.example.com/" + "p" * 400,
        "client_name": "W" * 999,
        "recipient_name": "W" * 999,
        "order_no": "W" * 64,
        "promised_date": "2026-11-25",
        "carrier": "W" * 999,
        "tracking_no": "W" * 64,
        "tracking_url": "https://carrier.example/" + "t" * 400,
        "detail": "customs",
        "lines": "W" * 9999,
        "notice_ref": "N-7F3K-Q2WM-81TX",
        "summary_day": "2026-11-25",
    }
    for name in LIBRARY.templates:
        for language in LIBRARY.languages:
            for channel in Channel:
                fields = longest | {"status": "delayed"}
                made = said(name, channel, language, fields)
                assert len(made.text) <= LIMITS[channel].text
                assert len(made.subject) <= LIMITS[channel].subject


def test_an_html_mail_loads_nothing_and_links_nowhere_but_to_the_portal_and_the_carrier():
    for name in LIBRARY.templates:
        fields = LIBRARY.samples(name)
        html = said(name, Channel.EMAIL, "en", fields).html
        links = set(re.findall(r'href="([^"]*)"', html))
        assert links <= {fields["portal_url"], fields.get("tracking_url", "")}
        assert set(re.findall(r"https?://[^\s\"<]+", html)) == links
        assert not re.search(r"<img|<script|src=|url\(|@import", html, re.IGNORECASE)


def test_the_progress_line_is_text_and_appears_only_on_the_straight_way():
    shipped = said("shipped", Channel.EMAIL, "en", LIBRARY.samples("shipped"))
    line = "✓ Received · ✓ Processing · ● Shipped · ○ Out for delivery · ○ Delivered"
    assert line in shipped.text.replace("\u00a0", " ")
    assert line in shipped.html.replace("\u00a0", " ")
    delivered = said("delivered", Channel.EMAIL, "es", LIBRARY.samples("delivered"))
    assert "✓\u00a0Entregado" in delivered.html
    for name in ("delayed", "backordered", "regulatory_hold", "cancelled", "returned"):
        assert "○" not in said(name, Channel.EMAIL, "en", LIBRARY.samples(name)).html
