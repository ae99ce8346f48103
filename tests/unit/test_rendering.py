"""Rendering: what values can and cannot do, and which templates are refused."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ordernotify.core.channels import Channel
from ordernotify.core.policy import TemplateFacts
from ordernotify.rendering import Library, ProblemCode, Rendered, RenderProblem, TemplateError
from ordernotify.rendering.tree import default_root
from ordernotify.rendering.values import SHOW, clean

ROOT = Path(__file__).resolve().parents[2] / "templates"
LIBRARY = Library.load()
SHIPPED = LIBRARY.samples("shipped")

HOSTILE = [
    "{{7*7}}",
    "{{''.__class__.__mro__}}",
    "{% for x in range(9) %}x{% endfor %}",
    "{# gone #}",
    "${7*7}",
    "#{7*7}",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'onmouseover='x",
    "</td></table><a href='https://evil.example'>",
    "javascript:alert(1)",
    "&lt;b&gt;",
    "a\r\nBcc: everybody@example.com",
    "a\x00b\x1b[31m",
    "\u202egnp.exe",
    "zero\u200bwidth\ufeff",
    "=?utf-8?q?hidden?=",
]
FREE_TEXT = ("supplier_name", "carrier", "client_name", "recipient_name", "order_no", "tracking_no", "lines")


def shipped(channel=Channel.CHAT, language="en", **fields):
    made = LIBRARY.render(template="shipped", channel=channel, language=language, fields=SHIPPED | fields)
    assert isinstance(made, Rendered), made
    return made


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, tuple(name for name, _ in attrs)))


def tags(html):
    parser = Tags()
    parser.feed(html)
    return parser.tags


# What values can do.


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("name", FREE_TEXT)
def test_a_hostile_value_stays_literal_text(name, text):
    made = shipped(Channel.EMAIL, **{name: text})
    assert made.variables[name] == clean(text)
    assert tags(made.html) == tags(shipped(Channel.EMAIL).html)
    whole = made.subject + made.text + made.html
    assert "49" not in whole.replace(SHIPPED["tracking_no"], "").replace(SHIPPED["order_no"], "")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]", whole)


@given(value=st.text(alphabet=st.characters(), min_size=1, max_size=60), name=st.sampled_from(FREE_TEXT))
@settings(max_examples=150, deadline=None)
def test_no_value_changes_the_markup_of_a_mail(value, name):
    if not clean(value):
        return
    made = shipped(Channel.EMAIL, **{name: value})
    assert tags(made.html) == tags(shipped(Channel.EMAIL).html)
    assert "\n" not in made.subject
    (made.subject + made.text + made.html).encode("utf-8")


@given(
    st.lists(
        st.sampled_from(["{{", "}}", "{%", "%}", "{#", "#}", "7*7", "order_no", "<", ">", '"', "'", "&"]), max_size=6
    )
)
@settings(max_examples=100, deadline=None)
def test_no_value_is_ever_read_as_template_text(pieces):
    value = " ".join(["x", *pieces])
    assert value in shipped(Channel.CHAT, carrier=value).text


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_cleaning_twice_is_cleaning_once_and_leaves_one_visible_line(value):
    once = clean(value)
    assert clean(once) == once
    assert once.isprintable()
    assert "  " not in once


def test_line_breaks_in_a_subject_become_spaces_and_encoded_words_are_broken():
    made = shipped(Channel.EMAIL, order_no="ON-1\r\nBcc: x =?utf-8?q?y?=")
    assert made.subject == "Order ON-1 Bcc: x = ?utf-8?q?y?= has shipped"


@pytest.mark.parametrize(
    "link",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "https://user@evil.example/",
        "https://good.example:80@evil.example/",
        'https://x.example/"onclick="y',
        "https://x.example/a b",
        "https://x.example/\u202e",
        "//x.example",
        "https://x.example/" + "a" * 500,
    ],
)
def test_a_link_that_is_not_plainly_one_is_left_out(link):
    made = shipped(Channel.EMAIL, tracking_url=link)
    assert "tracking_url" not in made.variables
    assert link not in made.html
    assert made.html.count("href=") == 1


def test_a_long_name_is_cut_visibly_and_a_long_identifier_is_not_shown_at_all():
    made = shipped(carrier="C" * 200, tracking_no="T" * 65)
    assert made.variables["carrier"] == "C" * 57 + "..."
    assert "tracking_no" not in made.variables
    assert "TTT" not in made.text


def test_a_name_with_accents_is_kept_and_composed():
    assert shipped(Channel.EMAIL, recipient_name="Jose\u0301 Mun\u0303oz").variables["recipient_name"] == "José Muñoz"


def test_typographic_quotes_do_not_double_the_price_of_a_text_message():
    assert "O'Brien Freight" in shipped(Channel.SMS, carrier="O\u2019Brien Freight").text


# What the library makes of fields.


@pytest.mark.parametrize(
    ("language", "shown"), [("en", "25 Nov 2026"), ("es", "25 nov 2026"), ("es-MX", "25 nov 2026")]
)
def test_a_date_reads_as_the_language_writes_it(language, shown):
    assert shipped(language=language).variables["promised_date"] == shown


def test_a_date_that_is_none_is_left_out():
    assert "promised_date" not in shipped(promised_date="soon").variables


def test_codes_become_words_and_unknown_codes_are_ignored():
    assert shipped(detail="customs").variables["detail"] == "Customs clearance is in progress"
    assert shipped(language="es", detail="customs").variables["detail"] == "Pendiente de aduana"
    assert "detail" not in shipped(detail="<b>free text</b>").variables
    assert shipped().variables["status_word"] == "Shipped"


@pytest.mark.parametrize(
    ("asked", "used", "fallback"),
    [("en", "en", False), ("ES", "es", False), ("es_MX", "es", False), ("de", "en", True), ("", "en", True)],
)
def test_a_language_that_is_not_there_falls_back_to_english_and_says_so(asked, used, fallback):
    made = shipped(language=asked)
    assert (made.language, made.fallback) == (used, fallback)
    assert made.version == LIBRARY.versions["shipped", Channel.CHAT, used]


def test_a_field_that_a_template_does_not_declare_never_reaches_it():
    made = shipped(Channel.EMAIL, part_no="SECRET-PART", notice_ref="N-AAAA-BBBB-CCCC", ship_to="Base 7")
    assert made.variables.keys() <= LIBRARY.facts("shipped").fields | {"status_word", "progress"}
    assert not re.search("SECRET-PART|N-AAAA|Base 7", made.text + made.html)


def test_facts_are_labelled_in_the_language_and_in_the_order_of_the_template():
    assert [label for label, _ in shipped(language="es").facts][:4] == [
        "Pedido",
        "Estado",
        "Detalle",
        "Entrega prevista",
    ]


@pytest.mark.parametrize("missing", sorted(LIBRARY.facts("shipped").required))
def test_a_missing_required_field_is_a_problem_that_names_it(missing):
    fields = {name: value for name, value in SHIPPED.items() if name != missing}
    made = LIBRARY.render(template="shipped", channel=Channel.SMS, language="en", fields=fields)
    assert made == RenderProblem(
        code=ProblemCode.MISSING_FIELD,
        template="shipped",
        field=missing,
        message=f"{missing} is required, in a form that can be shown",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("status", "unknown"), ("portal_url", "ftp://x"), ("order_no", "\u200b"), ("order_no", "9" * 65)],
)
def test_a_required_value_that_cannot_be_shown_is_a_problem_that_does_not_repeat_it(name, value):
    made = LIBRARY.render(template="shipped", channel=Channel.SMS, language="en", fields=SHIPPED | {name: value})
    assert isinstance(made, RenderProblem)
    assert (made.code, made.field) == (ProblemCode.BAD_VALUE, name)
    assert value not in made.message


def test_the_unknown_status_has_no_template():
    made = LIBRARY.render(template="unknown", channel=Channel.SMS, language="en", fields=SHIPPED)
    assert isinstance(made, RenderProblem)
    assert made.code is ProblemCode.NO_TEMPLATE


def test_facts_are_what_policy_asks_for():
    facts = LIBRARY.facts("shipped")
    assert isinstance(facts, TemplateFacts)
    assert {"order_no", "status", "supplier_name", "portal_url"} == facts.required
    with pytest.raises(KeyError):
        LIBRARY.facts("unknown")


# Which templates are refused.


@pytest.fixture
def tree(tmp_path):
    return Path(shutil.copytree(ROOT, tmp_path / "templates"))


def edit(tree, file, old, new):
    path = tree / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def problems(tree):
    with pytest.raises(TemplateError) as caught:
        Library.load(tree)
    return [str(problem) for problem in caught.value.problems]


SMS = "shipped/en/sms.j2"
ALLOWED = (
    "a template may only show a value, ask whether one `is defined`, list `label, value in facts` and fill the"
    " blocks of its layout"
)
REFUSED_SMS = [
    ("{{ part_no }}", f"field 'part_no' is unknown: there are {', '.join(sorted({*SHOW, 'status_word', 'progress'}))}"),
    ("{{ notice_ref }}", "field 'notice_ref' is not declared: add it to [fields] of template.toml"),
    ("{{ carrier }}", "field 'carrier' may be absent: show it inside `{% if carrier is defined %}`"),
    ("{{ order_no|upper }}", "filter 'upper' is unknown: there are none, values arrive ready to show"),
    ("{{ order_no|nosuch }}", "filter 'nosuch' is unknown: there are none, values arrive ready to show"),
    ("{{ say_nothing }}", "phrase 'say_nothing' is unknown: add 'nothing' to [phrases] of every language"),
    ("{{ order_no.upper() }}", f"Call is not allowed: {ALLOWED}"),
    ("{{ order_no.__class__ }}", f"Getattr is not allowed: {ALLOWED}"),
    ("{{ 7 * 7 }}", f"Mul is not allowed: {ALLOWED}"),
    ("{% set x = 1 %}", f"Assign is not allowed: {ALLOWED}"),
    ("{% include 'x' %}", f"Include is not allowed: {ALLOWED}"),
    ("{% for x in order_no %}{{ x }}{% endfor %}", f"For is not allowed: {ALLOWED}"),
    ("{% if order_no == 'x' %}y{% endif %}", f"Compare is not allowed: {ALLOWED}"),
    ("{% if order_no is none %}y{% endif %}", f"test 'none' is not allowed: {ALLOWED}"),
    ("{% if lines %}y{% endif %}", f"Name is not allowed: {ALLOWED}"),
    ("https://bit.example/x", "a link may only come from portal_url or tracking_url: remove the fixed address"),
    ("{% if %}", "is not a template: Expected an expression, got 'end of statement block'"),
]


@pytest.mark.parametrize(("added", "message"), REFUSED_SMS)
def test_a_template_that_breaks_a_rule_is_refused_with_its_place_and_what_would_be_right(tree, added, message):
    (tree / SMS).write_text("{{ supplier_name }}\n" + added + "\n", encoding="utf-8")
    assert problems(tree) == [f"{SMS}:2: {message}"]


REFUSED_EDITS = [
    (
        "shipped/template.toml",
        'ceiling = "CUI_SP"',
        'ceiling = "FCI"',
        (
            "shipped/template.toml:17: field 'lines' can be CUI_SP, above the ceiling FCI: raise the ceiling or remove"
            " the field"
        ),
    ),
    (
        "shipped/template.toml",
        'ceiling = "CUI_SP"',
        'ceiling = "TOP"',
        "shipped/template.toml:2: ceiling: Input should be 'PUBLIC', 'INTERNAL', 'FCI', 'CUI' or 'CUI_SP'",
    ),
    (
        "shipped/template.toml",
        'carrier = "optional"',
        'carrier = "maybe"',
        "shipped/template.toml:13: fields.carrier: Input should be 'required', 'optional' or 'marked'",
    ),
    (
        "notice/template.toml",
        'ceiling = "PUBLIC"',
        'ceiling = "FCI"',
        "notice/template.toml:2: a notice goes where nothing else may: its ceiling is PUBLIC",
    ),
    (
        "shipped/template.toml",
        '"promised_date", ',
        '"promised_date", "notice_ref", ',
        "shipped/template.toml:5: fact 'notice_ref' is not among [fields]",
    ),
    (
        "shipped/template.toml",
        'carrier = "UPS"\n',
        "",
        "shipped/template.toml:22: field 'carrier' has no sample: add it to [samples]",
    ),
    (
        "regulatory_hold/template.toml",
        "[samples]\n",
        'detail = "optional"\n\n[samples]\ndetail = "customs"\n',
        "regulatory_hold/template.toml:16: field 'detail' is declared and never shown: remove it",
    ),
    (
        "shipped/en/sms.j2",
        "has shipped",
        "has shipped, which makes us all very happy here and we hope that it makes you happy as well",
        (
            "shipped/en/sms.j2:1: its samples take 2 segments of GSM-7, the budget is 1: shorten it, or raise"
            " sms_segments in template.toml"
        ),
    ),
    (
        "shipped/en/chat.text.j2",
        "is defined %} {{ tracking_url }}{% endif +%}",
        "is defined %} {{ tracking_url }}{% endif %}",
        "shipped/en/chat.text.j2:3: a tag at the end swallows the line break: close it with +%}",
    ),
    (
        "shipped/en/email.html.j2",
        "<p>",
        '<img src="x"><p>',
        "shipped/en/email.html.j2:4: '<img' is not allowed: an e-mail loads and runs nothing",
    ),
    (
        "shipped/en/email.html.j2",
        "<p>",
        '<p title="{{ order_no }}">',
        'shipped/en/email.html.j2:4: order_no stands in a tag: only href="..." with a link field may hold a value',
    ),
    (
        "delivered/en/email.html.j2",
        "#1d6b45",
        "red; position: fixed",
        "delivered/en/email.html.j2:2: block 'tone' stands in a tag: give one plain word such as #1f4e79",
    ),
    (
        "shipped/en/email.html.j2",
        "block headline",
        "block headlines",
        (
            "shipped/en/email.html.j2:2: block 'headlines' is not in the layout: there are body, facts_table, headline,"
            " tone"
        ),
    ),
    (
        "shipped/en/email.text.j2",
        "{% endblock %}",
        "{% endblock %}\nlost",
        "shipped/en/email.text.j2:5: text outside every block is never shown: put it into a block of the layout",
    ),
    (
        "shipped/en/email.text.j2",
        "_layout/email.text.j2",
        "_layout/email.html.j2",
        "shipped/en/email.text.j2:1: only '_layout/email.text.j2' may be extended, and only where that layout exists",
    ),
    (
        "_words/es.toml",
        'customs = "Pendiente de aduana"\n',
        "",
        "_words/es.toml:1: [details] lacks 'customs'",
    ),
]


@pytest.mark.parametrize(("file", "old", "new", "message"), REFUSED_EDITS)
def test_a_tree_that_breaks_a_promise_is_refused_with_its_place_and_what_would_be_right(tree, file, old, new, message):
    edit(tree, file, old, new)
    assert problems(tree) == [message]


def test_missing_and_stray_files_are_all_named_at_once(tree):
    (tree / "shipped/es/sms.j2").unlink()
    (tree / "delayed/en/chat.text.j2").rename(tree / "delayed/en/chat.txt.j2")
    (tree / "delayed/en/email.html.j2").write_bytes(b"\xff\xfe")
    shutil.rmtree(tree / "cancelled")
    (tree / "lost").mkdir()
    (tree / "lost/template.toml").write_text("", encoding="utf-8")
    found = problems(tree)
    assert "shipped/es/sms.j2:1: is missing: every message has every part in every language" in found
    assert "delayed/en/chat.text.j2:1: is missing: every message has every part in every language" in found
    assert "delayed/en/email.html.j2:1: is not UTF-8: save it as UTF-8" in found
    assert "cancelled/template.toml:1: is missing: every message declares its fields and ceiling" in found
    assert any(line.startswith("lost/template.toml:1: 'lost' is no message: there are ") for line in found)
    assert any(line.startswith("delayed/en/chat.txt.j2:1: is not used: parts are ") for line in found)


def test_a_language_that_is_begun_must_be_complete(tree):
    shutil.copy(tree / "_words/en.toml", tree / "_words/fr.toml")
    found = problems(tree)
    assert "shipped/template.toml:4: sms_segments lacks 'fr'" in found
    assert "shipped/fr/sms.j2:1: is missing: every message has every part in every language" in found


def test_a_folder_that_is_not_there_is_named(tmp_path):
    assert problems(tmp_path / "none") == [
        f"{tmp_path / 'none'}:0: is no folder: give the folder that holds the templates"
    ]


# Versions and places.


def test_a_version_changes_with_the_words_of_its_own_channel_only(tree):
    before = Library.load(tree).versions
    edit(tree, SMS, "has shipped", "is under way")
    after = Library.load(tree).versions
    assert {key for key in before if before[key] != after[key]} == {("shipped", Channel.SMS, "en")}
    assert all(re.fullmatch("[0-9a-f]{12}", version) for version in after.values())


def test_a_version_changes_with_the_layout_and_the_shared_words_it_uses(tree):
    before = Library.load(tree).versions
    edit(tree, "_layout/email.html.j2", "600px", "640px")
    after = Library.load(tree).versions
    changed = {key for key in before if before[key] != after[key]}
    assert {channel for _, channel, _ in changed} == {Channel.EMAIL}
    edit(tree, "_words/es.toml", '"Enviado"', '"Despachado"')
    again = Library.load(tree).versions
    assert {language for _, _, language in (key for key in after if after[key] != again[key])} == {"es"}


def test_an_installed_package_uses_its_own_templates_and_a_checkout_the_folder_beside_it(tmp_path):
    package = tmp_path / "site" / "ordernotify"
    package.mkdir(parents=True)
    assert default_root(package) == tmp_path / "site" / "templates"
    shutil.copytree(ROOT, package / "_templates")
    (tmp_path / "site" / "templates").mkdir()  # some other package's
    assert default_root(package) == package / "_templates"
    assert Library.load(default_root(package)).versions == LIBRARY.versions
