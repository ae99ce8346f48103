"""Tokens: what a token endpoint's answers mean, and what a refused token means by its age."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from ordernotify.core.delivery import Deferred, FailureKind, Rejected
from ordernotify.platforms._base import Answer, Context, Token
from ordernotify.platforms._oauth import ERRORS, ask, authorization, read_token, token_refused

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
K = FailureKind


def outcome(status: int, value: object = None, **headers: str):
    return read_token(Answer(status, headers, json.dumps(value).encode()), NOW, platform="p")


def test_a_token_is_asked_for_by_a_form():
    call = ask("https://id.example/token", {"grant_type": "a b", "client_secret": "s&t"})
    assert (call.method, call.url, call.body) == (
        "POST",
        "https://id.example/token",
        b"grant_type=a+b&client_secret=s%26t",
    )
    assert "s&t" not in repr(call)


@pytest.mark.parametrize("lifetime", [3599, "3599"])
def test_a_token_ends_when_the_answer_says(lifetime):
    token = outcome(200, {"access_token": "ya29.a", "expires_in": lifetime, "token_type": "Bearer"})
    assert isinstance(token, Token)
    assert (token.value, token.expires_at) == ("ya29.a", NOW + timedelta(seconds=3599))
    assert "ya29.a" not in repr(token)
    assert authorization(Context(settings=None, now=NOW, token=token)) == {"authorization": "Bearer ya29.a"}


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"access_token": ""},
        {"access_token": "a", "expires_in": None},
        {"access_token": "a", "expires_in": True},
        {"access_token": "a", "expires_in": "soon"},
        {"access_token": "a", "expires_in": "\u0663"},
        {"access_token": "a\r\nX: y", "expires_in": 9},
        {"access_token": 7, "expires_in": 9},
    ],
)
def test_an_answer_without_a_usable_token_is_tried_again(value):
    assert outcome(200, value) == Deferred(K.TRANSIENT, "p_token_unreadable")


EXPECTED = {
    K.AUTH: "invalid_client invalid_grant unauthorized_client access_denied invalid_scope",
    K.CONFIG: "invalid_request unsupported_grant_type",
    K.TRANSIENT: "server_error internal_failure temporarily_unavailable",
}
ROWS = [(word, kind) for kind, words in EXPECTED.items() for word in words.split()]


def test_the_table_of_errors_has_no_row_that_is_not_tested():
    assert dict(ROWS) == ERRORS


@pytest.mark.parametrize(("word", "kind"), ROWS)
def test_each_error_decides_whatever_the_http_status(word, kind):
    found = outcome(400, {"error": word, "error_description": "d"}, **{"retry-after": "7"})
    expected = Deferred(kind, f"p_{word}", retry_after_s=7.0) if kind is K.TRANSIENT else Rejected(kind, f"p_{word}")
    assert found == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, Rejected(K.AUTH, "p_token_400")),
        (401, Rejected(K.AUTH, "p_token_401")),
        (404, Rejected(K.AUTH, "p_token_404")),
        (429, Deferred(K.RATE, "p_token_429")),
        (503, Deferred(K.TRANSIENT, "p_token_503", ambiguous=False)),
    ],
)
@pytest.mark.parametrize("value", [None, {"error": {"code": 1}}, {"error": "something\nnew"}])
def test_without_a_known_error_the_http_status_decides(status, expected, value):
    assert outcome(status, value) == expected


def test_an_old_token_that_is_refused_is_had_anew_and_a_new_one_stops_the_platform():
    token = outcome(200, {"access_token": "a", "expires_in": 3600})
    assert isinstance(token, Token)
    fresh = Context(settings=None, now=NOW + timedelta(seconds=30), token=token)
    old = Context(settings=None, now=NOW + timedelta(minutes=30), token=token)
    assert token_refused(fresh, "c") == Rejected(K.AUTH, "c")
    assert token_refused(old, "c") == Deferred(K.TRANSIENT, "c", retry_after_s=0.0)
    assert token_refused(Context(settings=None, now=NOW), "c") == Rejected(K.AUTH, "c")
