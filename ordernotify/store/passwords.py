"""Passwords: how they are kept, compared and counted.

A hash is computed in a thread, outside any transaction; what the answer means is decided under the lock of the
account's row, so that attempts at the same time are counted exactly and none slips past a lock.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

import asyncpg
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from ordernotify.clock import new_id
from ordernotify.core.audit import Actor, AuditType, Source
from ordernotify.core.people import Person, Role, after_wrong
from ordernotify.store.audit import Record, Scribe, emit
from ordernotify.store.database import Connection, Pool

_HASHER: Final = PasswordHasher()
# Each hash takes 64 MiB: as many at a time as the memory of a small machine bears.
_HASHING: Final = ThreadPoolExecutor(max_workers=2, thread_name_prefix="argon2")
# What an unknown name's password is compared with, so that the answer takes as long as for a known one.
_NOBODY: Final = _HASHER.hash(secrets.token_urlsafe(24))


class SignInFault(StrEnum):
    """Why somebody does not come in."""

    WRONG = "wrong"  # no such person, disabled, or not the password: which one is for the record only
    LOCKED = "locked"


@dataclass(frozen=True, slots=True)
class SignInRefused:
    """Somebody does not come in; ``locked_until`` where waiting helps."""

    fault: SignInFault
    locked_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """A password that was compared with what the account had at that moment."""

    person_id: str
    password_hash: str
    right: bool


async def check(pool: Pool, person_id: str, password: str) -> Checked:
    """Compare a password, in as much time for a name that nobody has."""
    known = await pool.fetchval("SELECT password_hash FROM person WHERE id = $1", person_id)
    loop = asyncio.get_running_loop()
    right = await loop.run_in_executor(_HASHING, _is_right, known or _NOBODY, password)
    return Checked(person_id, known or "", right and known is not None)


async def hash_password(password: str) -> str:
    """Return what the store keeps of a password."""
    return await asyncio.get_running_loop().run_in_executor(_HASHING, _HASHER.hash, password)


async def proven(
    connection: Connection,
    scribe: Scribe,
    checked: Checked,
    *,
    ip: str,
    at: datetime,
) -> asyncpg.Record | SignInRefused:
    """Say what a password that was compared means for its account, and count it; the row stays locked.

    Call it inside a transaction, and let that commit whatever the answer is: a refusal is counted in it.
    """
    row = await connection.fetchrow("SELECT * FROM person WHERE id = $1 FOR UPDATE", checked.person_id)
    if row is None:
        # What was typed as a name may be anything, a password too: it is not repeated.
        nobody = str(new_id())
        source = Source(kind="person", id="unknown", ip=ip or None)
        await emit(
            connection,
            [
                scribe.record(
                    AuditType.AUTHN_FAIL,
                    object_=("person", "unknown"),
                    stream=(nobody, 1),
                    at=at,
                    source=source,
                    outcome={"status": "failure", "code": "unknown"},
                )
            ],
        )
        return SignInRefused(SignInFault.WRONG)
    if row["locked_until"] is not None and row["locked_until"] > at:
        await _failed(connection, scribe, row, code="locked", ip=ip, at=at)
        return SignInRefused(SignInFault.LOCKED, row["locked_until"])
    # The password may have been changed while the old one was compared.
    if not checked.right or row["password_hash"] != checked.password_hash:
        wrong, until = after_wrong(row["failed_attempts"], row["locked_until"], at=at)
        await _failed(connection, scribe, row, code="wrong", ip=ip, at=at, counted=(wrong, until))
        return SignInRefused(SignInFault.LOCKED, until) if until else SignInRefused(SignInFault.WRONG)
    if not row["active"]:
        await _failed(connection, scribe, row, code="disabled", ip=ip, at=at)
        return SignInRefused(SignInFault.WRONG)
    version = await connection.fetchval(
        "UPDATE person SET failed_attempts = 0, locked_until = NULL, version = version + 1 WHERE id = $1"
        " RETURNING version",
        row["id"],
    )
    outcome = {"status": "success"}
    await emit(
        connection, [_authn(scribe, AuditType.AUTHN_SUCCESS, row["id"], version=version, ip=ip, at=at, outcome=outcome)]
    )
    return row


async def _failed(
    connection: Connection,
    scribe: Scribe,
    row: asyncpg.Record,
    *,
    code: str,
    ip: str,
    at: datetime,
    counted: tuple[int, datetime | None] | None = None,
) -> None:
    wrong, until = counted or (row["failed_attempts"], row["locked_until"])
    locks = counted is not None and until is not None
    version = await connection.fetchval(
        "UPDATE person SET failed_attempts = $2, locked_until = $3, version = version + $4 WHERE id = $1"
        " RETURNING version",
        row["id"],
        wrong,
        until,
        1 + locks,
    )
    outcome = {"status": "failure", "code": code, "in_a_row": wrong}
    records = [_authn(scribe, AuditType.AUTHN_FAIL, row["id"], version=version - locks, ip=ip, at=at, outcome=outcome)]
    if locks:
        outcome = {"status": "failure", "code": "locked", "in_a_row": wrong}
        records.append(_authn(scribe, AuditType.AUTHN_LOCK, row["id"], version=version, ip=ip, at=at, outcome=outcome))
    await emit(connection, records)


def _authn(
    scribe: Scribe,
    type_: AuditType,
    person_id: str,
    *,
    version: int,
    ip: str,
    at: datetime,
    outcome: Mapping[str, object],
) -> Record:
    return scribe.record(
        type_,
        object_=("person", person_id),
        stream=(f"person:{person_id}", version),
        at=at,
        actor=Actor(kind="person", id=person_id),
        source=Source(kind="person", id=person_id, ip=ip or None),
        outcome=outcome,
    )


def _is_right(hashed: str, password: str) -> bool:
    try:
        return _HASHER.verify(hashed, password)
    except VerifyMismatchError:
        return False


def digest(secret: str) -> bytes:
    """Return what the store keeps of a token or a code."""
    return hashlib.sha256(secret.encode()).digest()


def person_of(row: asyncpg.Record) -> Person:
    """Return the person of a row of the table."""
    return Person(id=row["id"], name=row["name"], roles=frozenset(Role(word) for word in row["roles"]))


def as_actor(person: Person) -> Actor:
    """Return a person as who did something."""
    return Actor(kind="person", id=person.id)
