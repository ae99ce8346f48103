"""Nothing that was removed, marked, secret or disguised passes the gate, and ordinary messages do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordernotify.core.gate import Hit, HitKind, scan
from ordernotify.core.labels import Label

ORDINARY = (
    "Hello, your order has shipped. It left our warehouse today with the carrier you chose.\r\n"
    "\tFollow it at https://portal.example.com/orders, or write to support@example.com (8:00 to 17:00).\n"
    "Freight class 60, weight 12.5 kg, 50% paid. Key account: Ann. The item(s) are the (S) size; C/O dock 5."
)
HOSTS = ("portal.example.com",)


def look(*parts, sealed=(), ceiling=Label.PUBLIC, hosts=HOSTS, public=()):
    return scan(parts, sealed=sealed, ceiling=ceiling, links_allowed=hosts, public=public)


def kinds(*parts, **options):
    return {hit.kind for hit in look(*parts, **options)}


@pytest.mark.parametrize(
    "text",
    [
        ORDINARY,
        "",
        "Su pedido ha sido enviado: llegará el día 12 \u2014 gracias. 注文は発送されました。 👩\u200d🚀",
        "An update is available in the secure portal. Reference N-7F3K-Q2WM-81TX.",
        "CONFIDENTIALITY NOTICE: this is for you alone. Temperature-controlled. Unclassified.",
        "Exported to Canada, ECCN: EAR99. Distribution Statement A. Trade secret of Acme, in secret, all clear.",
        "(C) 2026 Acme",
        "Your password was not asked for. The token of our thanks: a mug.",
    ],
)
def test_an_ordinary_message_passes(text):
    assert look(text, sealed=["SO-2024-00123", "1Z999AA10123456784", "7"]) == ()


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("SECRET//NOFORN", "classification"),
        ("This is TOP SECRET.", "classification"),
        ("This is Top Secret.", "classification"),
        ("Secret//REL TO USA", "classification"),
        ("NATO SECRET", "classification"),
        ("CONFIDENTIAL//NOFORN", "confidential"),
        ("a\nCONFIDENTIAL\nb", "confidential"),
        ("(S) The unit moves.", "portion-mark"),
        ("a\n  (TS) b", "portion-mark"),
        ("a (S//NF) b", "portion-mark"),
        ("TS//SI", "portion-mark"),
        ("Classified by: somebody", "classification-block"),
        ("Derived from: a guide", "classification-block"),
        ("DECLASSIFY ON: 20501231", "classification-block"),
        ("CUI", "cui"),
        ("(CUI) a", "cui"),
        ("CUI//SP-CTI", "cui-specified"),
        ("Controlled Unclassified Information", "cui"),
        ("CONTROLLED//PROPIN", "controlled"),
        ("UNCLASSIFIED//FOUO", "fouo"),
        ("For Official Use Only", "fouo"),
        ("noforn", "noforn"),
        ("Not releasable to foreign nationals", "noforn"),
        ("DISTRIBUTION STATEMENT D. Distribution authorized to", "distribution"),
        ("Distribution Statement F", "distribution"),
        ("DISTRO C", "distribution"),
        ("ITAR restricted", "itar"),
        ("subject to the International Traffic in Arms Regulations", "itar"),
        ("under the Export Administration Regulations", "ear"),
        ("export-controlled", "export-controlled"),
        ("ECCN 9A610.x", "eccn"),
        ("ECCN: 3a001", "eccn"),
        ("USML Category VIII(h)", "usml"),
        ("Federal Contract Information", "fci"),
        ("\uff23\uff35\uff29", "cui"),
        ("C\u200dUI", "cui"),
        ("&#67;UI", "cui"),
    ],
)
def test_a_marking_is_found(text, rule):
    assert Hit(HitKind.MARKING, rule) in look("Dear all,", text)


@pytest.mark.parametrize(
    ("text", "in_place_from"),
    [
        ("Federal Contract Information", Label.FCI),
        ("CUI", Label.CUI),
        ("Distribution Statement C", Label.CUI),
        ("CUI//SP-EXPT", Label.CUI_SP),
        ("ITAR", Label.CUI_SP),
        ("NOFORN", Label.CUI_SP),
    ],
)
def test_a_marking_is_in_place_where_the_channel_may_carry_it(text, in_place_from):
    for ceiling in (Label.PUBLIC, Label.INTERNAL, Label.FCI, Label.CUI, Label.CUI_SP):
        assert (look(text, ceiling=ceiling) == ()) is (ceiling >= in_place_from)


def test_a_classification_is_in_place_nowhere():
    assert kinds("SECRET", ceiling=Label.CUI_SP) == {HitKind.MARKING}


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("-----BEGIN RSA PRIVATE KEY-----", "private-key"),
        ("-----BEGIN PRIVATE KEY-----", "private-key"),
        ("AKIA" + "A1B2" * 4, "aws-key"),
        ("xoxb-" + "1234567890-ab", "slack-token"),
        ("https://hooks.slack.com/services/T0/B0/x", "slack-webhook"),
        ("ghp_" + "a1" * 18, "github-token"),
        ("SG." + "a" * 22 + "." + "b" * 43, "sendgrid-key"),
        ("SK" + "0a" * 16, "twilio-key"),
        ("AIza" + "a" * 35, "google-key"),
        ("sk_live_" + "a" * 24, "live-key"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.sig", "json-web-token"),
        ("Authorization: Bearer abcdefghijklmnop", "bearer"),
        ("password: hunter22", "password"),
        ("api_key=abcdefghijkl", "assignment"),
        ("?token=abcdefghijklmnop", "assignment"),
    ],
)
def test_a_credential_is_found_on_every_channel(text, rule):
    assert Hit(HitKind.CREDENTIAL, rule) in look(text, ceiling=Label.CUI_SP)


@pytest.mark.parametrize(
    "written",
    [
        "SO-2024-00123",
        "so 2024 00123",
        "SO202400123",
        "SO\u20112024\u201100123",
        "SO\u2013 2024 \u2014 00123",
        "\uff33\uff2f\uff0d\uff12\uff10\uff12\uff14-00123",
        "SO-2024\u200b-00123",
        "SO\u00a02024\u00ad00123",
        "S\u200dO-2024-00123",
        "SO&#45;2024&#x2d;00123",
        "SO%2D2024%2D00123",
        "refSO-2024-00123x",
        "SO-\n2024-\n00123",
    ],
)
def test_a_sealed_value_is_found_however_it_is_written(written):
    assert HitKind.SEALED in kinds(f"Your order {written} is here", sealed=["other-value", "SO-2024-00123"])


def test_a_sealed_value_is_found_however_it_was_stored():
    for stored in ("\uff33\uff2f\uff0d1\uff12\uff13", "so 123", "S O\u2013123", "SO\u200b-123"):
        assert kinds("Your order SO-123", sealed=[stored]) == {HitKind.SEALED}


def test_a_sealed_value_is_found_across_two_parts():
    assert kinds("Update on SO-2024", "00123 is ready", sealed=["SO-2024-00123"]) == {HitKind.SEALED}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("12 units", True),
        ("units: 12.", True),
        ("(12)", True),
        ("at 12:30", False),
        ("12.5 kg", False),
        ("112 units", False),
        ("2026-12-24", False),
        ("N-12-X", False),
        ("A12", False),
    ],
)
def test_a_short_sealed_value_is_found_as_a_whole_word_only(text, found):
    assert (look(text, sealed=["12"]) != ()) is found


def test_a_short_sealed_value_is_found_with_another_dash():
    assert kinds("unit A\u20111 left", sealed=["a-1"]) == {HitKind.SEALED}
    assert kinds("unit #7 left", sealed=["#7"]) == {HitKind.SEALED}
    assert look("unit BA-1 left", sealed=["a-1"]) == ()


@pytest.mark.parametrize("value", ["", " ", "-", "\u200b", "\u2013 \u2014"])
def test_a_sealed_value_that_is_nothing_is_found_nowhere(value):
    assert look(ORDINARY, sealed=[value]) == ()


def test_a_public_value_may_be_shown_though_a_sealed_one_is_part_of_it():
    supplier = "Acme Defense Systems"
    assert look("News from Acme Defense Systems", sealed=["Acme", supplier], public=[supplier]) == ()
    assert look("News from Area 51 Parts", sealed=["51"], public=["Area 51 Parts"]) == ()


def test_a_public_value_hides_no_other_place_and_no_longer_value():
    supplier = "Acme Defense"
    assert kinds("Acme Defense: for Acme", sealed=["Acme"], public=[supplier]) == {HitKind.SEALED}
    assert kinds("Acme Defense Order", sealed=["Acme Defense Order"], public=[supplier]) == {HitKind.SEALED}
    assert kinds("Area 51 Parts: 51", sealed=["51"], public=["Area 51 Parts"]) == {HitKind.SEALED}


@pytest.mark.parametrize(
    ("char", "rule"),
    [
        ("\x00", "control"),
        ("\x07", "control"),
        ("\x1b", "control"),
        ("\x7f", "control"),
        ("\x85", "control"),
        ("\u2028", "control"),
        ("\ud800", "control"),
        ("\u202e", "bidi"),
        ("\u2066", "bidi"),
        ("\u200f", "bidi"),
        ("\u200b", "invisible"),
        ("\ufeff", "invisible"),
        ("\u00ad", "invisible"),
        ("\U000e0041", "invisible"),
        ("&#8238;", "bidi"),
        ("%E2%80%AE", "bidi"),
    ],
)
def test_a_character_that_deceives_the_reader_is_found(char, rule):
    assert Hit(HitKind.CHARACTER, rule) in look(f"ship{char}ped")


@pytest.mark.parametrize(
    "text",
    [
        "https://portal.example.com",
        "https://portal.example.com/a?b=c#d and HTTPS://PORTAL.EXAMPLE.COM:8443/x",
        "(see https://portal.example.com).",
        "https://portal.example.com.",
        '<a href="https://portal.example.com">write to me@example.com</a>',
        "portal.example.com/orders",
        "mailto:support@example.com",
        "and/or, 24/12/2026, CUI//SP-CTI",
    ],
)
def test_a_link_to_a_listed_host_passes(text):
    assert look(text, ceiling=Label.CUI_SP) == ()


@pytest.mark.parametrize(
    "text",
    [
        "https://evil.example/",
        "http://portal.example.com.evil.example/",
        "https://portal.example.com@evil.example/",
        "https://portal.example.com:pw@evil.example/",
        "https://evil.example\\@portal.example.com/",
        "https://evil.example#@portal.example.com/",
        "https://portal.example.com%2f@evil.example/",
        "https://portal.example.com\uff0f@evil.example/",
        "https://portal.example.com'@evil.example/",
        "https://p\u043ertal.example.com/",
        "ftp://portal.example.com/",
        '<a href="//evil.example/x">',
        "<a href='https://evil.example'>",
        "https&#58;//evil.example/",
        "www.evil.example",
        "Now at bit.ly/abc",
        "evil-site.com/track",
        "https://[::1]/",
        "https://user@portal.example.com/",
    ],
)
def test_a_link_to_anywhere_else_is_found(text):
    assert Hit(HitKind.LINK, "host") in look(f"Follow {text}")


@pytest.mark.parametrize("text", ["javascript:alert(1)", '<img src="data:image/png;base64,AA">', "JavaScript:x"])
def test_a_link_that_is_a_program_is_found(text):
    assert Hit(HitKind.LINK, "scheme") in look(text)


def test_a_hit_never_holds_what_was_found():
    hits = look("SO-2024-00123 SECRET password: hunter22 https://evil.example/ \u202e", sealed=["SO-2024-00123"])
    assert {hit.kind for hit in hits} == set(HitKind)
    shown = repr(hits).lower()
    assert not any(word in shown for word in ("2024", "hunter", "evil", "\u202e"))


def test_each_finding_is_told_once():
    hits = look("CUI", "CUI", "https://a.example https://b.example")
    assert len(hits) == len(set(hits)) == 2


# Letters that stay themselves whatever stands beside them; Korean ones join.
visible = st.text(st.characters(categories=["Lu", "Ll", "Nd"]), min_size=4)
disguises = st.sampled_from(["", " ", "-", "\u2010", "\u200b", "\u00a0", "\u200d", "\u2014 "])


@given(visible, disguises, st.text(max_size=50), st.text(max_size=50))
def test_no_long_sealed_value_passes_in_any_surroundings_or_disguise(value, disguise, before, after):
    # Percent signs and entities around a value may make other letters of its own.
    before, after = before.replace("%", "").replace("&", ""), after.replace(";", "")
    disguised = disguise.join(value)
    assert HitKind.SEALED in kinds(f"{before} {disguised} {after}", sealed=[value])


@given(st.lists(st.text(max_size=80)), st.lists(st.text(max_size=20)), st.sampled_from(Label))
def test_every_text_is_scanned_to_an_end_the_same_way_each_time(parts, sealed, ceiling):
    assert look(*parts, sealed=sealed, ceiling=ceiling) == look(*parts, sealed=sealed, ceiling=ceiling)


@given(st.text(max_size=100), st.sampled_from(Label), st.sampled_from(Label))
def test_a_lower_ceiling_never_finds_less(text, one, other):
    strict, open_ = sorted((one, other))
    assert set(look(text, ceiling=open_)) <= set(look(text, ceiling=strict))
