"""Sessions and approval codes: how a person who gave the password once is known afterwards."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from ordernotify.clock import new_id
from ordernotify.core.audit import Actor, AuditType, Source
from ordernotify.core.people import CODE_LASTS, SESSION_LASTS, Person, session_is_over
from ordernotify.store.audit import Scribe, emit
from ordernotify.store.database import Connection, Pool
from ordernotify.store.passwords import SignInRefused, check, digest, person_of, proven

# How often a session that is in use is written down as such.
_SEEN_EVERY: Final = timedelta(minutes=1)
# Letters and digits that nobody takes for each other, in three groups of four: 60 bits.
_ALPHABET: Final = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
_GROUPS, _GROUP = 3, 4


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A person who came in: the session's token and the token that each of its forms must carry."""

    token: str
    csrf: str
    person: Person


@dataclass(frozen=True, slots=True)
class Session:
    """Whose session a token belongs to, and what its forms must carry."""

    person: Person
    csrf: str


@dataclass(frozen=True, slots=True)
class Issued:
    """A code that was issued, shown once."""

    code: str
    expires_at: datetime


async def sign_in(
    pool: Pool, scribe: Scribe, *, person_id: str, password: str, ip: str, at: datetime
) -> SignedIn | SignInRefused:
    """Let a person in by password; every attempt is counted and recorded."""
    checked = await check(pool, person_id, password)
    async with pool.acquire() as connection, connection.transaction():
        row = await proven(connection, scribe, checked, ip=ip, at=at)
        if isinstance(row, SignInRefused):
            return row
        token, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        await connection.execute(
            "INSERT INTO session (token, person_id, csrf, created_at, last_seen_at, expires_at)"
            " VALUES ($1, $2, $3, $4, $4, $5)",
            digest(token),
            row["id"],
            csrf,
            at,
            at + SESSION_LASTS,
        )
        return SignedIn(token, csrf, person_of(row))


async def session_of(pool: Pool, token: str, *, at: datetime) -> Session | None:
    """Return the session of a token while it lasts and its person is active."""
    row = await pool.fetchrow(
        "SELECT s.csrf, s.created_at AS began_at, s.last_seen_at, p.* FROM session s JOIN person p"
        " ON p.id = s.person_id WHERE s.token = $1 AND s.revoked_at IS NULL AND s.expires_at > $2 AND p.active",
        digest(token),
        at,
    )
    if row is None or session_is_over(created_at=row["began_at"], last_seen_at=row["last_seen_at"], at=at):
        return None
    if at - row["last_seen_at"] >= _SEEN_EVERY:
        await pool.execute(
            "UPDATE session SET last_seen_at = greatest(last_seen_at, $2) WHERE token = $1", digest(token), at
        )
    return Session(person_of(row), row["csrf"])


async def person_of_session(pool: Pool, token: str, *, at: datetime) -> Person | None:
    """Return who is signed in with a token."""
    session = await session_of(pool, token, at=at)
    return session.person if session else None


async def sign_out(pool: Pool, scribe: Scribe, *, token: str, ip: str, at: datetime) -> None:
    """End a session; one that has ended stays as it is."""
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(
            "UPDATE session SET revoked_at = $2 WHERE token = $1 AND revoked_at IS NULL RETURNING token, person_id",
            digest(token),
            at,
        )
        if row is None:
            return
        session = row["token"].hex()[:32]
        await emit(
            connection,
            [
                scribe.record(
                    AuditType.AUTHN_LOGOUT,
                    object_=("session", session),
                    stream=(f"session:{session}", 1),
                    at=at,
                    actor=Actor(kind="person", id=row["person_id"]),
                    source=Source(kind="person", id=row["person_id"], ip=ip or None),
                    outcome={"status": "success"},
                )
            ],
        )


async def issue_code(
    pool: Pool, scribe: Scribe, *, person_id: str, password: str, ip: str, at: datetime
) -> Issued | SignInRefused:
    """Issue a code with which a person decides once in another place; it asks the password as a sign-in does."""
    checked = await check(pool, person_id, password)
    async with pool.acquire() as connection, connection.transaction():
        row = await proven(connection, scribe, checked, ip=ip, at=at)
        if isinstance(row, SignInRefused):
            return row
        code = "-".join("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP)) for _ in range(_GROUPS))
        await connection.execute(
            "INSERT INTO approval_code (sha256, person_id, expires_at) VALUES ($1, $2, $3)",
            _code_digest(code),
            row["id"],
            at + CODE_LASTS,
        )
        return Issued(code, at + CODE_LASTS)


async def redeem_code(connection: Connection, scribe: Scribe, *, code: str, at: datetime) -> Person | None:
    """Return whose code this is, and use it up; None for one that is wrong, used or too old.

    Call it in the transaction of what it proves.
    """
    row = await connection.fetchrow(
        "UPDATE approval_code c SET used_at = $2 FROM person p WHERE c.sha256 = $1 AND c.used_at IS NULL"
        " AND c.expires_at > $2 AND p.id = c.person_id AND p.active RETURNING p.*",
        _code_digest(code),
        at,
    )
    who = row["id"] if row else "unknown"
    await emit(
        connection,
        [
            scribe.record(
                AuditType.AUTHN_SUCCESS if row else AuditType.AUTHN_FAIL,
                object_=("approval_code", _code_digest(code).hex()[:32] if row else str(new_id())),
                stream=(f"approval_code:{new_id()}", 1),
                at=at,
                actor=Actor(kind="person", id=who),
                source=Source(kind="person", id=who),
                outcome={"status": "success" if row else "failure", "code": "approval_code"},
            )
        ],
    )
    return person_of(row) if row else None


def _code_digest(code: str) -> bytes:
    return digest("".join(character for character in code.upper() if character.isalnum()))
