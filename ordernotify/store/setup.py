"""Make a server ready: roles, databases and migrations; safe to repeat, needed once per database."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, make_url
from sqlalchemy.ext.asyncio import create_async_engine

OWNER = "ordernotify_owner"
APP = "ordernotify_app"
SEALER = "ordernotify_sealer"
READER = "ordernotify_reader"
PREFECT = "ordernotify_prefect"
_LOGINS = (APP, SEALER, READER, PREFECT)

DATABASE = "ordernotify"
PREFECT_DATABASE = "prefect"


@dataclass(frozen=True, slots=True)
class Urls:
    """Where each role connects; every URL holds that role's password."""

    app: str = field(repr=False)
    sealer: str = field(repr=False)
    reader: str = field(repr=False)
    prefect: str = field(repr=False)


async def prepare(
    admin_url: str, *, passwords_dir: Path, database: str = DATABASE, prefect_database: str = PREFECT_DATABASE
) -> Urls:
    """Create roles and databases where missing, migrate ours, and return the URL of each role.

    ``admin_url`` is any database of the server as a user who may create roles. Passwords are drawn once and
    kept in ``passwords_dir`` (one file a role, mode 0600).
    """
    passwords = {role: _password(passwords_dir, role) for role in _LOGINS}
    admin = await asyncpg.connect(plain(admin_url))
    try:
        await _roles(admin, passwords)
        await _database(admin, database, owner=OWNER)
        await _database(admin, prefect_database, owner=PREFECT)
    finally:
        await admin.close()
    await migrate(_at(admin_url, database=database))
    return urls_of(admin_url, passwords_dir=passwords_dir, database=database, prefect_database=prefect_database)


def urls_of(
    admin_url: str, *, passwords_dir: Path, database: str = DATABASE, prefect_database: str = PREFECT_DATABASE
) -> Urls:
    """Return the URL of each role on a server that ``prepare`` made ready."""
    passwords = {role: _password(passwords_dir, role) for role in _LOGINS}
    return Urls(
        app=_at(admin_url, database=database, user=APP, password=passwords[APP]),
        sealer=_at(admin_url, database=database, user=SEALER, password=passwords[SEALER]),
        reader=_at(admin_url, database=database, user=READER, password=passwords[READER]),
        prefect=_at(admin_url, database=prefect_database, user=PREFECT, password=passwords[PREFECT]),
    )


async def migrate(admin_url: str) -> None:
    """Bring our database to the newest migration, as the owner role (so that tables belong to it)."""
    engine = create_async_engine(admin_url)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade)
            await connection.commit()
    finally:
        await engine.dispose()


def alembic_config(connection: Connection) -> Config:
    """Return Alembic's configuration on an open connection; there is no alembic.ini to keep in step."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def plain(url: str) -> str:
    """Return an SQLAlchemy URL as asyncpg takes it."""
    return url.replace("postgresql+asyncpg://", "postgresql://", 1)


def _upgrade(connection: Connection) -> None:
    connection.exec_driver_sql(f"SET ROLE {OWNER}")
    command.upgrade(alembic_config(connection), "head")


async def _roles(admin: asyncpg.Connection, passwords: Mapping[str, str]) -> None:
    known = {row["rolname"] for row in await admin.fetch("SELECT rolname FROM pg_roles")}
    if OWNER not in known:
        await admin.execute(f"CREATE ROLE {OWNER} NOLOGIN")
    # The migrating user takes the owner's part for its session; a superuser may anyway.
    await admin.execute(f"GRANT {OWNER} TO CURRENT_USER")
    for role, password in passwords.items():
        verb = "ALTER" if role in known else "CREATE"
        await admin.execute(f"{verb} ROLE {role} LOGIN PASSWORD {_literal(password)}")
    await admin.execute(f"GRANT {PREFECT} TO CURRENT_USER")


async def _database(admin: asyncpg.Connection, name: str, *, owner: str) -> None:
    if await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
        return
    await admin.execute(f"CREATE DATABASE \"{name}\" OWNER {owner} TEMPLATE template0 ENCODING 'UTF8'")
    await admin.execute(f'REVOKE ALL ON DATABASE "{name}" FROM PUBLIC')
    if owner == OWNER:
        for role in (APP, SEALER, READER):
            await admin.execute(f'GRANT CONNECT ON DATABASE "{name}" TO {role}')


def _at(url: str, **changes: str) -> str:
    parts = make_url(url).set(
        drivername="postgresql+asyncpg",
        database=changes.get("database"),
        username=changes.get("user") or make_url(url).username,
        password=changes.get("password") or make_url(url).password,
    )
    return parts.render_as_string(hide_password=False)


def _literal(password: str) -> str:
    if not password.isalnum():
        raise ValueError("a role's password must be letters and digits; delete its file to draw a new one")
    return f"'{password}'"


def _password(folder: Path, role: str) -> str:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{role}.password"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text("ascii").strip()
    with os.fdopen(handle, "w", encoding="ascii") as file:
        password = secrets.token_hex(24)
        file.write(password)
    return password


def prepare_now(admin_url: str, *, passwords_dir: Path) -> Urls:
    """Do ``prepare`` from synchronous code that has no event loop."""
    return asyncio.run(prepare(admin_url, passwords_dir=passwords_dir))
