"""Commands about accounts of the supplier's staff; a password is asked for or read from standard input."""

from __future__ import annotations

import asyncio
import getpass
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer
from rich.table import Table

from ordernotify.cli._console import fail, out, print_json
from ordernotify.clock import now
from ordernotify.core.audit import Actor
from ordernotify.core.people import Role
from ordernotify.core.recipients import Refused
from ordernotify.settings import settings
from ordernotify.store import people, sessions
from ordernotify.store.audit import Scribe
from ordernotify.store.database import Pool, connect
from ordernotify.store.passwords import SignInFault, SignInRefused
from ordernotify.store.place import NoHouseError, read_urls

T = TypeVar("T")

app = typer.Typer(help="Accounts of the supplier's staff.", no_args_is_help=True)
_SCRIBE = Scribe("cli")
_ACTOR = Actor(kind="person", id="cli")
PersonId = Annotated[str, typer.Argument(help="Lower case words, as ann_lee.")]


@app.command("add")
def add(
    person: PersonId,
    name: Annotated[str, typer.Option(help="As others know this person.")],
    role: Annotated[list[Role], typer.Option(help="What the person may do; may be given more than once.")],
) -> None:
    """Make an account."""
    password = _new_password()
    made = _asked(
        lambda pool: people.add_person(
            pool, _SCRIBE, person_id=person, name=name, roles=role, password=password, actor=_ACTOR, at=now()
        )
    )
    _refuse(made)
    out.print(f"{person} may sign in")


@app.command("list")
def list_people(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program.")] = False) -> None:
    """Show who has an account, what each may do, and who is locked out."""
    found = _asked(people.accounts)
    rows: list[dict[str, str | list[str]]] = [
        {
            "id": account.person.id,
            "name": account.person.name,
            "roles": sorted(role.value for role in account.person.roles),
            "state": _state(account),
        }
        for account in found
    ]
    if as_json:
        print_json({"people": rows})
        return
    table = Table("person", "name", "roles", "state")
    for row in rows:
        table.add_row(*(value if isinstance(value, str) else " ".join(value) for value in row.values()))
    out.print(table)


@app.command("password")
def password(person: PersonId) -> None:
    """Change a password; it ends the account's lock and every session of it."""
    chosen = _new_password()
    _refuse(
        _asked(
            lambda pool: people.set_password(pool, _SCRIBE, person_id=person, password=chosen, actor=_ACTOR, at=now())
        )
    )
    out.print(f"{person} has a new password; sessions have ended")


@app.command("disable")
def disable(person: PersonId) -> None:
    """Let a person in no more, from now on."""
    _refuse(_asked(lambda pool: people.disable(pool, _SCRIBE, person_id=person, actor=_ACTOR, at=now())))
    out.print(f"{person} is disabled; sessions have ended")


@app.command("enable")
def enable(person: PersonId) -> None:
    """Let a person in again who was disabled or is locked out."""
    _refuse(_asked(lambda pool: people.enable(pool, _SCRIBE, person_id=person, actor=_ACTOR, at=now())))
    out.print(f"{person} may sign in")


@app.command("code")
def code(person: PersonId) -> None:
    """Print a code with which this person decides once, within ten minutes, in Prefect's form; asks the password."""
    given = _password("Password: ")
    issued = _asked(lambda pool: sessions.issue_code(pool, _SCRIBE, person_id=person, password=given, ip="", at=now()))
    if isinstance(issued, SignInRefused):
        fail(_why(issued))
    out.print(issued.code, highlight=False)


def _state(account: people.Account) -> str:
    if not account.active:
        return "disabled"
    locked = account.locked_until is not None and account.locked_until > now()
    return f"locked until {account.locked_until:%H:%M} UTC" if locked else "active"


def _why(refused: SignInRefused) -> str:
    if refused.fault is SignInFault.LOCKED and refused.locked_until is not None:
        return f"locked until {refused.locked_until:%H:%M} UTC after too many wrong passwords"
    return "no such person, or not the password"


def _new_password() -> str:
    first = _password("New password: ")
    if sys.stdin.isatty() and getpass.getpass("Once more: ") != first:
        fail("the two passwords differ")
    return first


def _password(prompt: str) -> str:
    """Ask at the terminal, or take the first line of standard input: never an argument, which others can see."""
    return getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")


def _refuse(answer: object) -> None:
    if isinstance(answer, Refused):
        fail(f"{answer.field} {answer.message}")


def _asked(ask: Callable[[Pool], Awaitable[T]]) -> T:
    try:
        url = read_urls(settings()).app
    except NoHouseError as error:
        fail(str(error))
    return asyncio.run(_on_pool(url, ask))


async def _on_pool(url: str, ask: Callable[[Pool], Awaitable[T]]) -> T:
    pool = await connect(url, size=1)
    try:
        return await ask(pool)
    finally:
        await pool.close()
