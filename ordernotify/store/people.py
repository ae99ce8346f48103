"""Accounts of the supplier's staff: who there is, what each may do, and who may come in no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ordernotify.core.audit import Actor, AuditType
from ordernotify.core.people import Person, Role, read_password, read_person_id
from ordernotify.core.recipients import Refused
from ordernotify.store.audit import Record, Scribe, emit
from ordernotify.store.database import Connection, Pool
from ordernotify.store.passwords import hash_password, person_of


@dataclass(frozen=True, slots=True)
class Account:
    """A person's account as a list shows it."""

    person: Person
    active: bool
    locked_until: datetime | None
    password_changed_at: datetime


async def add_person(
    pool: Pool,
    scribe: Scribe,
    *,
    person_id: str,
    name: str,
    roles: Sequence[Role],
    password: str,
    actor: Actor,
    at: datetime,
) -> Person | Refused:
    """Make an account; an id is never given to a second person."""
    checked = _refused(read_person_id(person_id)) or _refused(read_password(password, person_id=person_id, name=name))
    if checked or not (roles and name.strip()):
        return checked or Refused("roles" if name.strip() else "name", "must be given")
    words = sorted({role.value for role in roles})
    hashed = await hash_password(password)
    async with pool.acquire() as connection, connection.transaction():
        made = await connection.fetchval(
            "INSERT INTO person (id, name, roles, password_hash, password_changed_at, created_at)"
            " VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (id) DO NOTHING RETURNING true",
            person_id,
            name.strip(),
            words,
            hashed,
            at,
        )
        if not made:
            return Refused("person", "exists already")
        await emit(connection, [_about(scribe, AuditType.USER_CREATED, person_id, 1, actor=actor, at=at, roles=words)])
    return Person(id=person_id, name=name.strip(), roles=frozenset(roles))


async def set_password(
    pool: Pool, scribe: Scribe, *, person_id: str, password: str, actor: Actor, at: datetime
) -> Refused | None:
    """Change a password: it ends the account's lock, its sessions, and its unused codes."""
    name = await pool.fetchval("SELECT name FROM person WHERE id = $1", person_id)
    if name is None:
        return _NO_PERSON
    if refused := _refused(read_password(password, person_id=person_id, name=name)):
        return refused
    hashed = await hash_password(password)
    async with pool.acquire() as connection, connection.transaction():
        version = await connection.fetchval(
            "UPDATE person SET password_hash = $2, password_changed_at = $3, failed_attempts = 0,"
            " locked_until = NULL, version = version + 1 WHERE id = $1 RETURNING version",
            person_id,
            hashed,
            at,
        )
        await emit(
            connection,
            [_about(scribe, AuditType.USER_CHANGED, person_id, version, actor=actor, at=at, code="password")],
        )
        await _shut_out(connection, scribe, person_id, actor=actor, at=at)
    return None


async def disable(pool: Pool, scribe: Scribe, *, person_id: str, actor: Actor, at: datetime) -> Refused | None:
    """Let a person in no more, from this moment: sessions and codes end too."""
    async with pool.acquire() as connection, connection.transaction():
        version = await connection.fetchval(
            "UPDATE person SET active = false, version = version + 1 WHERE id = $1 RETURNING version", person_id
        )
        if version is None:
            return _NO_PERSON
        await emit(connection, [_about(scribe, AuditType.USER_DISABLED, person_id, version, actor=actor, at=at)])
        await _shut_out(connection, scribe, person_id, actor=actor, at=at)
    return None


async def enable(pool: Pool, scribe: Scribe, *, person_id: str, actor: Actor, at: datetime) -> Refused | None:
    """Let a person in again who was disabled or locked out."""
    async with pool.acquire() as connection, connection.transaction():
        version = await connection.fetchval(
            "UPDATE person SET active = true, failed_attempts = 0, locked_until = NULL, version = version + 1"
            " WHERE id = $1 RETURNING version",
            person_id,
        )
        if version is None:
            return _NO_PERSON
        await emit(connection, [_about(scribe, AuditType.USER_ENABLED, person_id, version, actor=actor, at=at)])
    return None


async def accounts(pool: Pool) -> list[Account]:
    """Return every account, by id."""
    rows = await pool.fetch("SELECT * FROM person ORDER BY id")
    return [Account(person_of(row), row["active"], row["locked_until"], row["password_changed_at"]) for row in rows]


async def _shut_out(connection: Connection, scribe: Scribe, person_id: str, *, actor: Actor, at: datetime) -> None:
    await connection.execute("DELETE FROM approval_code WHERE person_id = $1 AND used_at IS NULL", person_id)
    ended = await connection.fetch(
        "UPDATE session SET revoked_at = $2 WHERE person_id = $1 AND revoked_at IS NULL AND expires_at > $2"
        " RETURNING token",
        person_id,
        at,
    )
    await emit(
        connection,
        [
            scribe.record(
                AuditType.SESSION_REVOKED,
                object_=("session", row["token"].hex()[:32]),
                stream=(f"session:{row['token'].hex()[:32]}", 1),
                at=at,
                actor=actor,
                outcome={"status": "success", "person": person_id},
            )
            for row in ended
        ],
    )


def _about(
    scribe: Scribe, type_: AuditType, person_id: str, version: int, *, actor: Actor, at: datetime, **more: object
) -> Record:
    return scribe.record(
        type_,
        object_=("person", person_id),
        stream=(f"person:{person_id}", version),
        at=at,
        actor=actor,
        outcome={"status": "success", **more},
    )


def _refused(value: str | Refused) -> Refused | None:
    return value if isinstance(value, Refused) else None


_NO_PERSON: Final = Refused("person", "is not known; `ordernotify people list` shows who is")
